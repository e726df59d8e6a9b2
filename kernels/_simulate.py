"""Entry points of the probe-particle model."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._checks import check_grid, check_reach
from twinscope.kernels._columns import Given, joined, near_only, prepared, relax, relax_both_ways
from twinscope.kernels._images import namespace
from twinscope.kernels._terms import Term
from twinscope.kernels._tiles import SMALL_TILE, compact_order, cut, relax_tiles, tile_size
from twinscope.kernels._types import ArrayLike, Atoms, RelaxedColumns, RelaxedScan, ScanGrid, Tip


def simulate(
    atoms: Atoms,
    tip: Tip,
    grid: ScanGrid,
    *terms: Term,
    lennard_jones: bool = True,
    reach: float | None = None,
    substeps: int = 1,
) -> RelaxedScan:
    """Simulate the approach of a probe-particle tip over a grid.

    Parameters
    ----------
    atoms
        The sample. The dtype of its positions is the precision of the computation.
    tip
        The probe particle and its springs.
    grid
        Positions of the tip anchor; z from far to near. Each slice starts from the one before, so the first should be
        so far away (or so close to the next) that the probe can find its minimum.
    terms
        Further parts of the force field, such as a :class:`~twinscope.kernels.Plane`.
    lennard_jones
        False when the terms take the place of the Lennard-Jones forces between atoms and probe.
    reach
        Atoms that are laterally farther away than this (Å) may be left out, which saves time over a sample that is
        several times as large; None to sum over all. Charges act far: where some of them are left out, forces have a
        small step.
    substeps
        In how many steps the tip goes from one height to the next where the probe cannot be predicted, because it
        moves fast or is about to snap. A tip that moves continuously is approached with more steps. One is what other
        codes do: the minimum that the probe finds from where it was at the height before, which can be another one
        after a coarse step of z.

    Returns
    -------
    RelaxedScan
        Forces, displacements and flags, in the shape (nz, ny, nx).

    Raises
    ------
    ValueError
        When shapes do not fit, numbers are not finite, an element is unknown, z does not go from far to near, a
        periodic cell is charged, or the probe would leave the grid of a term. The message names the value.

    Notes
    -----
    The model is that of Hapala et al., Phys. Rev. B 90, 085421 (2014), without the interpolation grid of its usual
    implementations: forces are direct sums over atoms, at the probe.

    Displacements and forces can be differentiated, by the implicit function theorem, with respect to positions,
    charges and Lennard-Jones parameters of the atoms, to everything of the tip that is a number, to the axes of the
    grid and to the arrays of the terms. Where the probe did not converge the derivative is zero; where it snapped there
    is none, and the number is that of the branch it is on.

    The work is spread over all local devices.
    """
    check_grid(grid)
    columns = relax_columns(
        atoms, tip, _points(grid), grid.z, *terms, lennard_jones=lennard_jones, reach=reach, substeps=substeps
    )
    return _on_grid(columns, grid)


def simulate_cycle(
    atoms: Atoms, tip: Tip, grid: ScanGrid, *terms: Term, lennard_jones: bool = True, substeps: int = 1
) -> tuple[RelaxedScan, RelaxedScan]:
    """Simulate the approach and the way back.

    A probe that snapped stays on its other branch for a part of the way back: the two forces differ and the
    oscillation loses energy.

    Parameters
    ----------
    atoms, tip, grid, terms, lennard_jones, substeps
        As for :func:`simulate`.

    Returns
    -------
    approach, retract
        Both in the order of `grid`, from far to near.

    Raises
    ------
    ValueError
        As for :func:`simulate`.
    """
    check_grid(grid)
    points = _points(grid)
    given = prepared(atoms, tip, points, grid.z, terms, lennard_jones, substeps)
    results = relax_tiles(relax_both_ways, given, cut(points, tile_size(len(points), given.sites), given.dtype))
    down, up = (joined([both[way] for both in results], len(grid.z), len(points), 1) for way in (0, 1))
    return _on_grid(_first(down), grid), _on_grid(_first(up), grid)


def simulate_batch(
    atoms: Sequence[Atoms],
    tip: Tip | Sequence[Tip],
    grid: ScanGrid | Sequence[ScanGrid],
    terms: Sequence[tuple[Term, ...]] = (),
    *,
    lennard_jones: bool = True,
    substeps: int = 1,
) -> RelaxedScan:
    """Simulate many molecules, tips or frames: the same numbers as one after the other.

    Those with the same number of atoms, rounded up, are computed together, spread over all local devices.

    Parameters
    ----------
    atoms
        One sample for each simulation. They may have different numbers of atoms.
    tip, grid
        One for all, or one for each. Grids must have the same shape.
    terms
        Further parts of the force field for each simulation; empty for none.
    lennard_jones, substeps
        As for :func:`simulate`.

    Returns
    -------
    RelaxedScan
        With a leading axis, in the order of `atoms`.

    Raises
    ------
    ValueError
        As for :func:`simulate`, with the number of the simulation, and when lengths or shapes do not fit together.
    """
    count = len(atoms)
    if count == 0:
        raise ValueError("atoms is empty: expected one sample for each simulation")
    tips = _for_each("tip", tip, Tip, count)
    grids = _for_each("grid", grid, ScanGrid, count)
    if terms and len(terms) != count:
        raise ValueError(f"terms has {len(terms)} entries: expected one for each of {count} simulations, or none")
    shapes = {(len(grid.z), len(grid.y), len(grid.x)) for grid in grids}
    if len(shapes) != 1:
        raise ValueError(f"grids have the shapes {sorted(shapes)}: expected the same for all simulations of a batch")

    every = []
    for number, (sample, one_tip, one_grid) in enumerate(zip(atoms, tips, grids, strict=True)):
        try:
            check_grid(one_grid)
            more = terms[number] if terms else ()
            every.append(prepared(sample, one_tip, _points(one_grid), one_grid.z, more, lennard_jones, substeps))
        except ValueError as exc:
            raise ValueError(f"simulation {number}: {exc}") from exc
    # Only what has the same shapes can be compiled together.
    groups: dict[Any, list[int]] = {}
    for number, one in enumerate(every):
        shapes_of_one = tuple(np.shape(leaf) for leaf in jax.tree.leaves(one))
        groups.setdefault((jax.tree.structure(one), shapes_of_one), []).append(number)
    parts = [_relaxed_together([every[k] for k in numbers], [grids[k] for k in numbers]) for numbers in groups.values()]
    order = np.argsort([number for numbers in groups.values() for number in numbers])
    every_part = jax.tree.map(lambda *values: jnp.concatenate(values)[order], *parts) if len(parts) > 1 else parts[0]
    return _on_grid(every_part, grids[0], count)


def relax_columns(
    atoms: Atoms,
    tip: Tip,
    points: ArrayLike,
    heights: ArrayLike,
    *terms: Term,
    lennard_jones: bool = True,
    reach: float | None = None,
    substeps: int = 1,
) -> RelaxedColumns:
    """Simulate the approach over any list of lateral positions; see :func:`simulate`.

    Parameters
    ----------
    atoms, tip, terms, lennard_jones, reach, substeps
        As for :func:`simulate`.
    points
        x and y of the tip anchor, in Å, shape (n, 2).
    heights
        z of the tip anchor, in Å, shape (nz,), from far to near.

    Returns
    -------
    RelaxedColumns
        Shapes (nz, n[, 3]).

    Raises
    ------
    ValueError
        As for :func:`simulate`.
    """
    given = prepared(atoms, tip, points, heights, terms, lennard_jones, substeps)
    count, levels = len(points), len(heights)
    if reach is None:
        results = relax_tiles(relax, given, cut(points, tile_size(count, given.sites), given.dtype))
        return _first(joined(results, levels, count, 1))

    check_reach(reach, given, points)
    size = min(tile_size(count, 1), SMALL_TILE)
    order = compact_order(np.asarray(points), size)
    tiles = cut(np.asarray(points)[order], size, given.dtype)
    results = relax_tiles(relax, near_only(given, tiles, reach), tiles, np.arange(len(tiles)))
    columns = _first(joined(results, levels, count, 1))
    return jax.tree.map(lambda values: values[:, np.argsort(order)], columns)


def _relaxed_together(every: list[Given], grids: list[ScanGrid]) -> RelaxedColumns:
    """Relax simulations of the same shapes; with a leading axis for them."""
    columns = len(grids[0].x) * len(grids[0].y)
    size = tile_size(columns, every[0].sites)
    tiles = [cut(_points(grid), size, every[0].dtype) for grid in grids]
    owner = np.repeat(np.arange(len(every)), len(tiles[0]))
    given = jax.tree.map(lambda *values: namespace(*values).stack(values), *every)
    results = relax_tiles(relax, given, namespace(*tiles).concatenate(tiles), owner)
    return joined(results, len(grids[0].z), columns, len(every))


def _first(columns: RelaxedColumns) -> RelaxedColumns:
    return jax.tree.map(lambda values: values[0], columns)


def _on_grid(columns: RelaxedColumns, grid: ScanGrid, *leading: int) -> RelaxedScan:
    shape = (*leading, len(grid.z), len(grid.y), len(grid.x))
    return RelaxedScan(
        **{name: values.reshape(*shape, *values.shape[len(leading) + 2 :]) for name, values in vars(columns).items()}
    )


def _points(grid: ScanGrid) -> ArrayLike:
    """Lateral positions (ny nx, 2) of a grid, in Å, line after line."""
    np_ = namespace(grid.x, grid.y)
    return np_.stack(np_.meshgrid(np_.asarray(grid.x), np_.asarray(grid.y), indexing="xy"), axis=-1).reshape(-1, 2)


def _for_each(name: str, value: Any, kind: type, count: int) -> list[Any]:
    if isinstance(value, kind):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} entries: expected one for each of {count} simulations, or one alone")
    return list(value)
