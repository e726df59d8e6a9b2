"""Columns of a scan: what they are relaxed with, and how."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._checks import (
    check_atoms,
    check_heights,
    check_neutral,
    check_points,
    check_substeps,
    check_tip,
)
from twinscope.kernels._equilibrium import equilibrium
from twinscope.kernels._force_field import ForceField
from twinscope.kernels._grid_energy import check_inside
from twinscope.kernels._images import namespace, precision
from twinscope.kernels._pairs import bucket
from twinscope.kernels._relax import Approach, Route
from twinscope.kernels._sites import pair_terms, within_reach
from twinscope.kernels._spring import Spring
from twinscope.kernels._terms import Term, TermSum
from twinscope.kernels._types import ArrayLike, Atoms, RelaxedColumns, Tip
from twinscope.kernels._vectors import zeros

# How far a spring lets the probe go in a scan, in Å: more than any of those in use does.
_WANDER = 1.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Given:
    """What columns are relaxed with: pairs and further terms, springs, and the way down."""

    pairs: TermSum
    terms: tuple[Term, ...]
    spring: Spring
    route: Route

    @property
    def dtype(self) -> jnp.dtype:
        """Precision of the computation."""
        return self.route.heights.dtype

    @property
    def sites(self) -> int:
        """Length of the longest list of sites."""
        return max((np.shape(leaf)[0] for leaf in jax.tree.leaves(self.pairs)), default=1)

    @property
    def field(self) -> ForceField:
        """Everything that acts on the probe."""
        return ForceField(TermSum((self.pairs, *self.terms)), self.spring)


def prepared(
    atoms: Atoms,
    tip: Tip,
    points: ArrayLike,
    heights: ArrayLike,
    terms: tuple[Term, ...],
    lennard_jones: bool,
    substeps: int,
) -> Given:
    """Check what a user gives, and make of it what is computed with."""
    check_atoms(atoms)
    check_tip(tip)
    check_points(points)
    check_heights(heights)
    check_neutral(atoms, tip)
    check_substeps(substeps)
    dtype = precision(atoms)
    spring = Spring.of(tip, dtype)
    check_inside(terms, points, heights, spring.rest, (0, 0, 0) if tip.rigid else (_WANDER, _WANDER, 0))
    missing = bucket(len(heights), smallest=8) - len(heights)
    np_ = namespace(heights)
    z = np_.pad(np_.asarray(heights, dtype), (0, missing), mode="edge")
    route = Route(z, np.asarray(len(heights)), np.asarray(substeps))
    return Given(pair_terms(atoms, tip, lennard_jones=lennard_jones), terms, spring, route)


def near_only(given: Given, tiles: np.ndarray, reach: float) -> Given:
    """Give every tile the pairs that are near it; the rest is the same for all."""
    near = within_reach(given.pairs, tiles, reach)
    rest = (given.terms, given.spring, given.route)
    return Given(near, *jax.tree.map(lambda values: np.broadcast_to(values, (len(tiles), *np.shape(values))), rest))


def relax(given: Given, lateral: jax.Array) -> RelaxedColumns:
    """Relax the probe over lateral positions (n, 2) on the way down."""
    if given.spring.rigid:
        return _rigid(given, lateral)
    start = zeros(len(lateral), lateral.dtype)
    return _described(given, equilibrium(given.field, tuple(lateral.T), given.route, start))


def relax_both_ways(given: Given, lateral: jax.Array) -> tuple[RelaxedColumns, RelaxedColumns]:
    """Relax the probe over lateral positions (n, 2) on the way down, and from there on the way up."""
    if given.spring.rigid:
        return (_rigid(given, lateral),) * 2
    start = zeros(len(lateral), lateral.dtype)
    anchor = tuple(lateral.T)
    down = equilibrium(given.field, anchor, given.route, start)
    # The heights that only fill the array up are its last, on both ways.
    route = given.route
    backward = jnp.maximum(route.levels - 1 - jnp.arange(len(route.heights)), 0)
    lowest = jax.tree.map(lambda values: values[route.levels - 1], down.displacement)
    up = equilibrium(given.field, anchor, replace(route, heights=route.heights[backward]), lowest)
    return _described(given, down), _described(given, jax.tree.map(lambda values: values[backward], up))


def _described(given: Given, path: Approach) -> RelaxedColumns:
    # In equilibrium the sample pulls as hard as the spring, which is known without another sum over atoms.
    (_, _, force_z), _ = given.spring.force_and_hessian(path.displacement)
    return RelaxedColumns(
        -force_z, jnp.stack(path.displacement, axis=-1), path.converged, path.snapped, path.evaluations
    )


def _rigid(given: Given, lateral: jax.Array) -> RelaxedColumns:
    """Hold the probe at its rest position."""
    nowhere = zeros(len(lateral), lateral.dtype)
    shape = (len(given.route.heights), len(lateral))

    def slice_(z: jax.Array) -> jax.Array:
        points = given.field.probe((lateral[:, 0], lateral[:, 1]), z, nowhere)
        (_, _, force_z), _ = given.field.sample.force_and_hessian(points)
        return force_z

    force_z = jax.lax.map(slice_, given.route.heights)
    return RelaxedColumns(
        force_z,
        jnp.zeros((*shape, 3), lateral.dtype),
        jnp.isfinite(force_z),
        jnp.zeros(shape, bool),
        jnp.ones(shape, jnp.int16),
    )


@partial(jax.jit, static_argnums=(1, 2, 3))
def joined(results: list[RelaxedColumns], levels: int, columns: int, simulations: int) -> RelaxedColumns:
    """Put tiles (tiles, nz, n) side by side, without what filled them up: (simulations, nz, columns)."""

    def side_by_side(*parts: jax.Array) -> jax.Array:
        values = jnp.concatenate(parts)[:, :levels]
        values = values.reshape(simulations, -1, *values.shape[1:])
        return jnp.moveaxis(values, 1, 2).reshape(simulations, levels, -1, *values.shape[4:])[:, :, :columns]

    return jax.tree.map(side_by_side, *results)
