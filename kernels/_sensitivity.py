"""Derivatives of the force with respect to every atom and to the tip, without differentiating the relaxation.

In equilibrium the probe follows a small additional force f by ``du = H^-1 f``. What `force_z` gains is the scalar
product of f with the *lever* ``e_z + du/dz``, whose second part is the slope along the branch of equilibria: the probe
answers a force along x by the same number in z as it answers a move in z along x (H is symmetric). So the derivative
with respect to any parameter of the sample is the lever times the derivative of the force at a fixed probe, and the
derivatives with respect to all atoms cost one sum over pairs.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._checks import check_atoms, check_displacement, check_heights, check_points, check_tip
from twinscope.kernels._constants import COULOMB
from twinscope.kernels._force_field import ForceField
from twinscope.kernels._mixing import mixed_parameters
from twinscope.kernels._pairs import NOWHERE, bucket
from twinscope.kernels._sites import pair_terms
from twinscope.kernels._spring import Spring
from twinscope.kernels._terms import Hessian, Term, TermSum, Vector
from twinscope.kernels._types import ArrayLike, Atoms, Tip
from twinscope.kernels._vectors import dot

# Columns differentiated together: their pairs stay in the cache.
_TILE = 64


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sensitivity:
    """Derivatives of ``force_z``, in eV/Å per unit of the parameter, in the shape (..., nz, n) of the columns.

    With weights (m, nz) those of ``weights @ force_z``, in the shape (..., m, n); but for `probe` and `lever`.

    Attributes
    ----------
    probe
        Positions of the probe, in Å, shape (3, nz, n).
    lever
        What `force_z` gains per force on the probe, shape (3, nz, n): (0, 0, 1) for a probe that does not give way. Its
        product with the force of any other term, at `probe`, is the derivative with respect to the strength of that
        term. It grows where the probe is about to snap.
    positions
        With respect to the positions of the atoms, per Å, shape (atoms, 3, nz, n).
    charges
        Charges of the atoms, per e, shape (atoms, nz, n).
    lennard_jones
        Radius (per Å) and depth (per eV) of the atoms, shape (atoms, 2, nz, n).
    anchor
        Position of the tip, per Å, shape (3, nz, n).
    rest
        (x0, y0, R) of the tip, per Å, shape (3, nz, n).
    stiffness
        (kx, ky, kz, k_radial) of the tip, per N/m, shape (4, nz, n).
    tip_charges
        Charges of the tip, per e, shape (charges, nz, n).
    """

    probe: ArrayLike
    lever: ArrayLike
    positions: ArrayLike
    charges: ArrayLike
    lennard_jones: ArrayLike
    anchor: ArrayLike
    rest: ArrayLike
    stiffness: ArrayLike
    tip_charges: ArrayLike


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Sites:
    """Atoms, filled up to a bucket: positions (m, 3), charges, radii and depths of the pairs with the probe (m,)."""

    positions: ArrayLike
    charges: ArrayLike
    radius: ArrayLike
    depth: ArrayLike
    own_depth: ArrayLike


def sensitivity(
    atoms: Atoms,
    tip: Tip,
    points: ArrayLike,
    heights: ArrayLike,
    displacement: ArrayLike,
    *terms: Term,
    weights: ArrayLike | None = None,
) -> Sensitivity:
    """Differentiate the force on the relaxed probe with respect to all parameters of atoms and tip at once.

    The same numbers as those of :func:`jax.jacfwd` over :func:`~twinscope.kernels.relax_columns`, for the price of
    about one simulation.

    Parameters
    ----------
    atoms
        An isolated sample, with Lennard-Jones forces and point charges.
    tip, points, heights
        As for :func:`~twinscope.kernels.relax_columns`.
    displacement
        Of the probe from its rest position, in Å, shape (nz, n, 3), as :func:`~twinscope.kernels.relax_columns` gives
        it. Where the probe did not converge, the derivatives mean nothing.
    terms
        Further parts of the force field. Their own dependence on atoms and tip is left out.
    weights
        Shape (m, nz): differentiate ``weights @ force_z`` instead, such as a frequency shift with
        :func:`~twinscope.kernels.frequency_shift_weights`, which saves memory.

    Returns
    -------
    Sensitivity
        NumPy arrays.

    Raises
    ------
    ValueError
        As :func:`~twinscope.kernels.relax_columns`, and when the sample is periodic, the tip rigid, or shapes do not
        fit.
    """
    count = len(points)
    _check(atoms, tip, points, heights, displacement, weights)
    dtype = jnp.result_type(np.asarray(atoms.positions), jnp.float32)
    pairs = pair_terms(atoms, tip)
    field = ForceField(TermSum((pairs, *terms)), Spring.of(tip, dtype))
    sites = _filled_up(atoms, tip, dtype)
    tip_charges = np.asarray(tip.charges, dtype).reshape(-1, 2)
    table = None if weights is None else np.asarray(weights, dtype)
    filled = (0, -count % _TILE)
    lateral = np.pad(np.asarray(points, dtype), (filled, (0, 0)), mode="edge")
    moved = np.pad(np.asarray(displacement, dtype), ((0, 0), filled, (0, 0)), mode="edge")
    z = np.asarray(heights, dtype)

    parts = [
        _derivatives(
            field, tip, sites, tip_charges, lateral[start : start + _TILE], z, moved[:, start : start + _TILE], table
        )
        for start in range(0, len(lateral), _TILE)
    ]
    whole = jax.tree.map(lambda *values: np.concatenate(values, axis=-1)[..., :count], *parts)
    atoms_only = {
        name: getattr(whole, name)[: len(atoms.numbers)] for name in ("positions", "charges", "lennard_jones")
    }
    return replace(whole, **atoms_only)


def _check(
    atoms: Atoms,
    tip: Tip,
    points: ArrayLike,
    heights: ArrayLike,
    displacement: ArrayLike,
    weights: ArrayLike | None,
) -> None:
    check_atoms(atoms)
    check_tip(tip)
    check_points(points)
    check_heights(heights)
    check_displacement(displacement, (len(heights), len(points), 3))
    if any(atoms.periodic_images):
        raise ValueError(f"atoms.periodic_images is {atoms.periodic_images}: expected an isolated sample")
    if tip.rigid:
        raise ValueError("tip.rigid is True: expected a probe that can move")
    if weights is not None and (np.ndim(weights) != 2 or np.shape(weights)[1] != len(heights)):
        raise ValueError(f"weights have shape {np.shape(weights)}: expected (m, {len(heights)}), one for every height")


def _filled_up(atoms: Atoms, tip: Tip, dtype: jnp.dtype) -> _Sites:
    """Take the atoms and what stands nowhere, so that samples of similar size share one compilation."""
    count = len(atoms.numbers)
    missing = bucket(count) - count
    nowhere = np.broadcast_to(np.asarray(NOWHERE), (missing, 3))
    charges = np.zeros(count) if atoms.charges is None else np.asarray(atoms.charges)
    radius, depth = mixed_parameters(atoms, tip)
    own = replace(tip, lennard_jones=(0.0, 1.0))
    own_depth = np.asarray(mixed_parameters(atoms, own)[1]) ** 2
    rest = (np.pad(np.asarray(values, dtype), (0, missing)) for values in (charges, radius, depth, own_depth))
    return _Sites(np.concatenate([np.asarray(atoms.positions), nowhere]).astype(dtype), *rest)


@jax.jit
def _derivatives(
    field: ForceField,
    tip: Tip,
    sites: _Sites,
    tip_charges: jax.Array,
    lateral: jax.Array,
    heights: jax.Array,
    displacement: jax.Array,
    weights: jax.Array | None,
) -> Sensitivity:
    """Differentiate over one tile of lateral positions (n, 2)."""
    shape = displacement.shape[:2]
    x, y = (jnp.broadcast_to(lateral[:, axis], shape).reshape(-1) for axis in (0, 1))
    z = jnp.repeat(heights, shape[1])
    moved = (displacement[..., 0].reshape(-1), displacement[..., 1].reshape(-1), displacement[..., 2].reshape(-1))
    probe = field.probe((x, y), z, moved)
    _, curvature = field.sample.force_and_hessian(probe)
    _, _, slope = field.evaluate((x, y), z, moved)
    lever = jnp.stack([slope[0], slope[1], slope[2] + 1])

    positions, charges, radius, depth, by_tip_charge = _of_atoms(sites, tip_charges, probe, lever)
    pulled = -jnp.stack(_product(curvature, (lever[0], lever[1], lever[2])))
    rest, stiffness = _of_spring(tip, pulled, slope, moved)

    def weighted(values: jax.Array) -> jax.Array:
        values = values.reshape(*values.shape[:-1], *shape)
        if weights is None:
            return values
        return jnp.einsum("ml,...ln->...mn", weights, values, precision=jax.lax.Precision.HIGHEST)

    return Sensitivity(
        probe.reshape(3, *shape),
        lever.reshape(3, *shape),
        jnp.stack([weighted(axis) for axis in positions], axis=1),
        weighted(charges),
        jnp.stack([weighted(radius), weighted(depth)], axis=1),
        weighted(pulled),
        weighted(rest),
        weighted(stiffness),
        weighted(by_tip_charge),
    )


def _of_atoms(
    sites: _Sites, tip_charges: jax.Array, probe: jax.Array, lever: jax.Array
) -> tuple[Vector, jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return derivatives (m, points) for positions, charges, radii and depths, and those for the charges of the tip."""
    a = (lever[0], lever[1], lever[2])
    radius, depth = sites.radius[:, None], sites.depth[:, None]
    dx, dy, dz = d = tuple(probe[axis] - sites.positions[:, axis, None] for axis in range(3))
    u = 1 / dot(d, d)
    along = dot(d, a)
    ratio = (radius * radius * u) ** 3
    # The force along d is -g, and 12 depth (ratio² - ratio) u.
    g = 12 * depth * u * (ratio - ratio * ratio)
    h = depth * u * u * (168 * ratio * ratio - 96 * ratio)
    by_radius = 72 * depth * u * (2 * ratio * ratio - ratio) / jnp.where(radius > 0, radius, 1) * along
    # The depth of the pair is the root of that of the atom times that of the probe.
    by_depth = 6 * u * (ratio * ratio - ratio) * depth / jnp.where(sites.own_depth > 0, sites.own_depth, 1)[:, None]
    positions = [g * one + h * along * component for one, component in zip(a, d, strict=True)]

    by_charge, by_tip_charge = jnp.zeros_like(along), []
    for number in range(len(tip_charges)):
        charge, height = tip_charges[number]
        beside = (dx, dy, dz + height)
        u = 1 / dot(beside, beside)
        along_this = dot(beside, a)
        per_charges = COULOMB * u * jnp.sqrt(u)
        by_charge += charge * per_charges * along_this
        by_tip_charge.append(sites.charges @ (per_charges * along_this))
        field = charge * sites.charges[:, None] * per_charges
        for axis in range(3):
            positions[axis] += field * (3 * u * along_this * beside[axis] - a[axis])
    nothing = jnp.zeros((0, len(lever[0])), lever.dtype)
    by_tip = jnp.stack(by_tip_charge) if by_tip_charge else nothing
    return (positions[0], positions[1], positions[2]), by_charge, by_radius, by_depth * along, by_tip


def _of_spring(tip: Tip, pulled: jax.Array, slope: Vector, moved: Vector) -> tuple[jax.Array, jax.Array]:
    """Return derivatives for rest position (3, points), which moves the probe, too, and stiffness (4, points)."""

    def pull(rest: ArrayLike, stiffness: ArrayLike) -> tuple[jax.Array, Vector]:
        spring = Spring.of(replace(tip, rest=rest, stiffness=stiffness), pulled.dtype)
        return spring.rest, spring.force_and_hessian(moved)[0]

    point = tuple(tuple(jnp.asarray(value, pulled.dtype) for value in values) for values in (tip.rest, tip.stiffness))
    flat, tree = jax.tree.flatten(point)
    rows = []
    for direction in jnp.eye(len(flat), dtype=pulled.dtype):
        _, (rest, force) = jax.jvp(pull, point, jax.tree.unflatten(tree, list(direction)))
        rows.append(rest @ pulled + dot(slope, force))
    return jnp.stack(rows[:3]), jnp.stack(rows[3:])


def _product(matrix: Hessian, vector: Vector) -> Vector:
    xx, xy, xz, yy, yz, zz = matrix
    x, y, z = vector
    return xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z
