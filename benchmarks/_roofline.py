"""What the machine can do, and what the kernels ask of it."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from _report import Figure, interleaved
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from twinscope.kernels import Atoms, RelaxedScan, ScanGrid, Tip, pair_terms

_ROUNDS = 7
# Of the matrices, which are multiplied on every device; of the array that is copied, in floats per device.
_ORDER = 2048
_FLOATS = 2**26
_BYTES = 4
# Operations for force and Hessian of one pair: 8 for the squared distance, 14 multiply-adds in the two matrix products,
# and the radial functions, where a reciprocal square root counts as one.
_FLOPS_PER_PAIR = 50
# The two radial arrays are written once and read once per pair, to the cache if all is well.
_RADIAL_BYTES_PER_PAIR = 4 * _BYTES
# Four floats, two flags and a count of two bytes per pixel and slice.
_BYTES_PER_POINT = 4 * _BYTES + 4
# Columns that are evaluated together: a tile of the kernels.
_TILE = 4096


@dataclass(frozen=True)
class Machine:
    """Measured peaks of all devices together: float32 operations and bytes per second."""

    flops: Figure
    bandwidth: Figure


@dataclass(frozen=True)
class Work:
    """What one stack took.

    Attributes
    ----------
    evaluations
        Of force and Hessian, per column.
    pairs
        Of a position and a site that were evaluated.
    points
        Pixels times slices.
    """

    evaluations: float
    pairs: float
    points: int

    @property
    def flops(self) -> float:
        """Operations in the sums over pairs."""
        return self.pairs * _FLOPS_PER_PAIR

    @property
    def radial_bytes(self) -> float:
        """Traffic of the radial arrays."""
        return self.pairs * _RADIAL_BYTES_PER_PAIR

    @property
    def result_bytes(self) -> float:
        """Size of the result."""
        return self.points * _BYTES_PER_POINT


def measured_machine() -> Machine:
    """Measure a large float32 matrix product and a pass over a large array, on all devices at once.

    On a CPU the product is NumPy's if that is faster: it has all cores as well.
    """
    devices = jax.local_devices()
    count = len(devices)
    sharding = NamedSharding(Mesh(np.array(devices), ("devices",)), PartitionSpec("devices"))
    matrices = jax.device_put(np.ones((count, _ORDER, _ORDER), np.float32), sharding)
    multiply = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
    actions = [lambda: jax.block_until_ready(multiply(matrices)), _in_place(sharding, count)]
    if jax.default_backend() == "cpu":
        matrix = np.ones((_ORDER, _ORDER), np.float32)
        actions.append(lambda: matrix @ matrix)
    product, passed, *numpy = interleaved(actions, _ROUNDS)
    peaks = [product.per(2 * count * _ORDER**3, "flop/s"), *(time.per(2 * _ORDER**3, "flop/s") for time in numpy)]
    bandwidth = passed.per(2 * count * _FLOATS * _BYTES, "B/s")
    return Machine(max(peaks, key=lambda peak: peak.median), bandwidth)


def _in_place(sharding: NamedSharding, count: int) -> Callable[[], object]:
    """Make something that reads and writes a large array without asking for new memory."""
    held = [jax.device_put(np.ones((count, _FLOATS), np.float32), sharding)]
    increase = jax.jit(lambda a: a + 1, donate_argnums=0)

    def run() -> None:
        held[0] = jax.block_until_ready(increase(held[0]))

    return run


def work(result: RelaxedScan, atoms: Atoms, tip: Tip) -> Work:
    """Count what a simulation did; sites that only fill an array up count, too."""
    evaluations = float(np.asarray(result.evaluations, float).sum(axis=0).mean())
    levels, lines, pixels = result.force_z.shape
    columns = lines * pixels
    return Work(evaluations, evaluations * columns * _sites(atoms, tip), levels * columns)


def one_evaluation(atoms: Atoms, tip: Tip, grid: ScanGrid) -> Callable[[], object]:
    """Make the sum of force and Hessian over all pairs, once for every pixel, in the middle of the heights."""
    devices = jax.local_devices()
    height = float(np.mean(grid.z)) - tip.rest[2]
    lateral = np.stack(np.meshgrid(grid.x, grid.y)).reshape(2, -1)
    points = np.vstack([lateral, np.full(lateral.shape[1], height)]).astype(np.float32)
    tiles = [points[:, start : start + _TILE] for start in range(0, points.shape[1], _TILE)]
    terms = pair_terms(atoms, tip)
    placed = [jax.device_put((terms, tile), devices[number % len(devices)]) for number, tile in enumerate(tiles)]
    evaluate = jax.jit(lambda terms, tile: terms.force_and_hessian(tile))
    return lambda: jax.block_until_ready([evaluate(*item) for item in placed])


def _sites(atoms: Atoms, tip: Tip) -> int:
    return sum(len(sites.positions) for sites in pair_terms(atoms, tip).terms)
