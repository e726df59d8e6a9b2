"""How work is cut into tiles of one shape, and spread over the devices."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from twinscope.kernels._types import ArrayLike

Relax = Callable[[Any, jax.Array], Any]
"""From what a tile is relaxed with, and its lateral positions (n, 2), to its result."""

# Columns relaxed by one call: enough to fill a core and few enough for its cache; fewer when there are many atoms.
_LARGEST_TILE = 4096
# Tiles are made smaller, down to this, to give work to every device, and to have few atoms near each.
SMALL_TILE = 512
_SMALLEST_TILE = 64
_PAIRS_PER_TILE = 2**22
# Tiles that a device other than a CPU relaxes at once: it takes many to keep one busy.
_TILES_AT_ONCE = 32


def tile_size(points: int, sites: int) -> int:
    """Columns per tile: a power of eight, or less where there are many devices or atoms, so that shapes are few."""
    affordable = max(_SMALLEST_TILE, 2 ** int(np.log2(_PAIRS_PER_TILE / max(sites, 1))))
    size = _SMALLEST_TILE
    while size < min(points, _LARGEST_TILE):
        size *= 8
    while size > SMALL_TILE and size * jax.local_device_count() > points:
        size //= 2
    return min(size, affordable)


def cut(points: ArrayLike, size: int, dtype: jnp.dtype) -> ArrayLike:
    """Cut a list of positions (n, 2) into tiles (tiles, size, 2); the last position fills the last tile up."""
    np_ = jnp if isinstance(points, jax.Array) else np
    return np_.pad(np_.asarray(points, dtype), ((0, -len(points) % size), (0, 0)), mode="edge").reshape(-1, size, 2)


def compact_order(points: np.ndarray, size: int) -> np.ndarray:
    """Order of points (n, 2) in which every `size` of them lie close together.

    They are cut into strips along x, and those along y.
    """
    tiles = -(-len(points) // size)
    strip = -(-tiles // max(round(tiles**0.5), 1)) * size
    along_x = np.argsort(points[:, 0], kind="stable")
    strips = [along_x[start : start + strip] for start in range(0, len(points), strip)]
    return np.concatenate([strip[np.argsort(points[strip, 1], kind="stable")] for strip in strips])


def relax_tiles(relax: Relax, given: Any, tiles: ArrayLike, owner: np.ndarray | None = None) -> list[Any]:
    """Relax every tile.

    Parameters
    ----------
    relax
        The same object in every call, or it would be compiled anew.
    given
        What the tiles are relaxed with, a pytree of arrays.
    tiles
        Lateral positions in Å, shape (tiles, n, 2).
    owner
        Which entry along the first axis of `given` a tile is relaxed with, shape (tiles,); None if all of them are
        relaxed with the whole of it.

    Returns
    -------
    list
        Results with a leading axis; those of all tiles come after one another.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((given, tiles))):
        # To be differentiated: what a tile computes on its way is computed again on the way back, not kept.
        one = jax.checkpoint(relax)
        if owner is None:
            return [jax.lax.map(partial(one, given), tiles)]
        return [jax.lax.map(lambda item: one(*item), (jax.tree.map(lambda values: values[owner], given), tiles))]

    devices = tuple(jax.local_devices()[: len(tiles)])
    at_once = 1 if devices[0].platform == "cpu" else _TILES_AT_ONCE
    group = len(devices) * min(at_once, -(-len(tiles) // len(devices)))
    many = _over_devices(relax, devices, owner is None)
    if owner is None and len(devices) > 1:
        given = jax.device_put(given, NamedSharding(Mesh(devices, ("tiles",)), PartitionSpec()))
    results = []
    for start in range(0, len(tiles), group):
        # The last group is filled up with the last tile.
        part = np.minimum(np.arange(start, start + group), len(tiles) - 1)
        item = given if owner is None else jax.tree.map(lambda values: values[owner[part]], given)  # noqa: B023
        results.append(many(item, tiles[part]))
    surplus = len(results) * group - len(tiles)
    if surplus:
        results[-1] = jax.tree.map(lambda values: values[: group - surplus], results[-1])
    return results


@lru_cache(maxsize=64)
def _over_devices(relax: Relax, devices: tuple[jax.Device, ...], shared: bool) -> Callable[[Any, ArrayLike], Any]:
    """Compile `relax` for a group of tiles, an equal part of which goes to each device."""

    def part(given: Any, tiles: jax.Array) -> Any:
        # On a CPU tiles in turn stay in the cache; a GPU wants them all at once.
        if devices[0].platform != "cpu":
            return jax.vmap(relax, in_axes=(None if shared else 0, 0))(given, tiles)
        if shared:
            return jax.lax.map(partial(relax, given), tiles)
        return jax.lax.map(lambda item: relax(*item), (given, tiles))

    if len(devices) == 1:
        return jax.jit(part)
    by_tile, everywhere = PartitionSpec("tiles"), PartitionSpec()
    return jax.jit(
        jax.shard_map(
            part,
            mesh=Mesh(np.array(devices), ("tiles",)),
            in_specs=(everywhere if shared else by_tile, by_tile),
            out_specs=by_tile,
            check_vma=False,
        )
    )
