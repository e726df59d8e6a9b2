"""Pictures of a molecule that a network learns to predict: descriptor maps, computed from its atoms.

Three of them are those of Alldritt et al., Sci. Adv. 6, eaay6913 (2020); the electrostatic map is that of Oinonen et
al., ACS Nano 16, 89 (2022). All functions are pure JAX: they can be compiled, and mapped over molecules whose arrays of
atoms are filled up with the atomic number 0. Atoms must be of the elements in :data:`.structure.NUMBERS`. Coordinates
are in Å; z may have any origin.

The sums run over one atom after the other, for all pixels at once: that is four times faster on a CPU than an array of
pixels by atoms, and needs no memory.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels import COULOMB, ELEMENTS, atomic_number

Array = jax.Array | np.ndarray

_RADII = {  # Van der Waals and covalent radii, in Å, as in the training data of the published networks.
    1: (1.487, 0.365),
    6: (1.908, 0.735),
    7: (1.780, 0.700),
    8: (1.661, 0.665),
    9: (1.750, 0.605),
    14: (1.900, 1.105),
    15: (2.100, 1.030),
    16: (2.000, 1.010),
    17: (1.948, 0.995),
    35: (2.220, 1.145),
}
_SHRUNK = -0.5  # What is added to the radii of vdW spheres and atomic disks, in Å.
_SPHERE_DEPTH = 1.5  # Å.
_DISK_DEPTH = 1.2  # Å.
_PROBE = "O"
_PROBE_CHARGE = -0.1  # e.
_REPULSION = 0.1  # eV/Å: the force whose isosurface is the height map.
_HEIGHT_DEPTH = 2.0  # Å.
# The isosurface reaches 1.0 to 1.3 Å above the highest sphere: it and what is kept below lie between these heights.
_SEARCH_HEIGHTS = np.arange(1.8, -1.3, -0.25, dtype=np.float32)
_REFINEMENTS = 3
_FIELD_HEIGHT = 4.0  # Å above the highest atom.
_FIELD_GROWN, _FIELD_DEPTH = 1.0, 2.0  # Å: of the spheres outside of which the field is set to zero.
_BUCKET = 8  # Lists of atoms are filled up to a multiple of it, so that few lengths are compiled.
_FAR_BELOW = -1e3  # Å: where the atoms are put that only fill an array up.


def _by_number(rows: list[tuple[float, ...]]) -> np.ndarray:
    """Rows for the known elements, to be looked up by atomic number."""
    table = np.zeros((max(_RADII) + 1, len(rows[0])), np.float32)
    table[list(_RADII)] = rows
    return table


def _force_coefficients(number: int) -> tuple[float, float]:
    """12 eps R**6 and 12 eps R**12, in eV Å⁶ and eV Å¹², of the Lennard-Jones force between an atom and the probe."""
    atom, probe = ELEMENTS[number - 1], ELEMENTS[atomic_number(_PROBE) - 1]
    depth, radius = (atom.depth * probe.depth) ** 0.5, atom.radius + probe.radius
    return 12 * depth * radius**6, 12 * depth * radius**12


_RADIUS_TABLE = _by_number(list(_RADII.values()))
_FORCE_TABLE = _by_number([_force_coefficients(number) for number in _RADII])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Sites:
    """What the maps need to know of the atoms: arrays of shape (n,), or of one atom in a loop over them."""

    x: jax.Array
    y: jax.Array
    z: jax.Array
    vdw_radius: jax.Array
    covalent_radius: jax.Array
    attraction: jax.Array
    repulsion: jax.Array
    charge: jax.Array

    @classmethod
    def of(cls, numbers: Array, positions: Array, charges: Array | None = None) -> "_Sites":
        numbers, positions = jnp.asarray(numbers), jnp.asarray(positions)
        present = numbers > 0
        vdw_radius, covalent_radius = jnp.asarray(_RADIUS_TABLE)[numbers].T
        attraction, repulsion = jnp.asarray(_FORCE_TABLE)[numbers].T
        x, y, z = positions.T
        charge = jnp.zeros_like(x) if charges is None else jnp.where(present, jnp.asarray(charges), 0)
        z = jnp.where(present, z, _FAR_BELOW)
        return cls(x, y, z, vdw_radius, covalent_radius, attraction, repulsion, charge)

    @property
    def top(self) -> jax.Array:
        """Height of the highest van der Waals sphere."""
        return jnp.max(self.z + self.vdw_radius)


def vdw_spheres(numbers: Array, positions: Array, x: Array, y: Array) -> jax.Array:
    """Height of the surface of overlapping spheres with shrunk van der Waals radii.

    Parameters
    ----------
    numbers, positions
        Atomic numbers (n,), 0 for none, and positions (n, 3).
    x, y
        Coordinates of the pixels, shapes (nx,) and (ny,).

    Returns
    -------
    jax.Array
        Å above the background, which lies 1.5 Å below the highest point; shape (ny, nx).
    """
    return _above_background(_spheres(_Sites.of(numbers, positions), x, y, _SHRUNK, _SPHERE_DEPTH))


def atomic_disks(numbers: Array, positions: Array, x: Array, y: Array) -> jax.Array:
    """Cones at the atoms, as wide as their covalent radii and the lower the deeper the atoms lie.

    Parameters
    ----------
    numbers, positions, x, y
        As for :func:`vdw_spheres`.

    Returns
    -------
    jax.Array
        1 at the highest atom, 0 between atoms and at those that lie 1.2 Å deeper; shape (ny, nx).
    """
    sites = _Sites.of(numbers, positions)
    highest, top = jnp.max(sites.z), sites.top

    def with_atom(total: jax.Array, atom: _Sites) -> jax.Array:
        depth = highest - atom.z
        shallow = (depth < _DISK_DEPTH) & (top - atom.z - atom.vdw_radius < _DISK_DEPTH)
        distance = jnp.sqrt(_lateral_squared(atom, x, y))
        inside = shallow & (distance < atom.covalent_radius)
        radius = jnp.where(shallow, atom.covalent_radius, 1)
        return total + jnp.where(inside, (1 - depth / _DISK_DEPTH) * (1 - distance / radius), 0)

    return _above_background(_over_atoms(with_atom, sites, _flat(x, y, 0)))


def height_map(numbers: Array, positions: Array, charges: Array, x: Array, y: Array) -> jax.Array:
    """Height where an oxygen probe that comes from above is first repelled by more than 0.1 eV/Å.

    The probe is rigid and carries -0.1 e.

    Parameters
    ----------
    numbers, positions, x, y
        As for :func:`vdw_spheres`.
    charges
        Of the atoms, in e, shape (n,).

    Returns
    -------
    jax.Array
        Å above the background, which lies 2 Å below the highest point; shape (ny, nx).
    """
    sites = _Sites.of(numbers, positions, charges)
    surface = _isosurface(sites, x, y)
    highest = jnp.max(surface)
    return _above_background(jnp.maximum(surface, highest - _HEIGHT_DEPTH))


def electrostatic_map(numbers: Array, positions: Array, charges: Array, x: Array, y: Array) -> jax.Array:
    """Electric field along z, 4 Å above the highest atom; zero where no atom is near the surface.

    Parameters
    ----------
    numbers, positions, charges, x, y
        As for :func:`height_map`.

    Returns
    -------
    jax.Array
        V/Å, positive above positive charges, shape (ny, nx).
    """
    sites = _Sites.of(numbers, positions, charges)
    height = jnp.max(sites.z) + _FIELD_HEIGHT

    def with_atom(total: jax.Array, atom: _Sites) -> jax.Array:
        dz = height - atom.z
        inverse = jax.lax.rsqrt(_lateral_squared(atom, x, y) + dz * dz)
        return total + COULOMB * atom.charge * dz * inverse**3

    field = _over_atoms(with_atom, sites, _flat(x, y, 0))
    return jnp.where(_spheres(sites, x, y, _FIELD_GROWN, _FIELD_DEPTH) > -_FIELD_DEPTH, field, 0)


def descriptor_maps(numbers: Array, positions: Array, charges: Array, x: Array, y: Array) -> jax.Array:
    """Compute all maps, shape (4, ny, nx), in the order of :data:`.prediction.DESCRIPTORS`.

    Parameters
    ----------
    numbers, positions, charges, x, y
        As for :func:`height_map`.
    """
    return jnp.stack(
        [
            atomic_disks(numbers, positions, x, y),
            vdw_spheres(numbers, positions, x, y),
            height_map(numbers, positions, charges, x, y),
            electrostatic_map(numbers, positions, charges, x, y),
        ]
    )


_compiled = jax.jit(descriptor_maps)


def descriptor_maps_of(
    numbers: np.ndarray, positions: np.ndarray, charges: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Return :func:`descriptor_maps` of one molecule as a NumPy array, with few compilations for many molecules.

    Parameters
    ----------
    numbers, positions, charges, x, y
        As for :func:`height_map`, without padding.
    """
    missing = -len(numbers) % _BUCKET
    atoms = (np.pad(values, [(0, missing), *[(0, 0)] * (np.ndim(values) - 1)]) for values in (positions, charges))
    real = (np.asarray(values, np.float32) for values in (*atoms, x, y))
    return np.asarray(_compiled(np.pad(np.asarray(numbers, np.int32), (0, missing)), *real))


def _spheres(sites: _Sites, x: Array, y: Array, grown: float, depth: float) -> jax.Array:
    """Surface of the grown spheres, in Å from its highest point, and not below `-depth`."""
    top = sites.top + grown

    def with_atom(surface: jax.Array, atom: _Sites) -> jax.Array:
        radius = atom.vdw_radius + grown
        below_surface = radius**2 - _lateral_squared(atom, x, y)
        height = atom.z - top + jnp.sqrt(jnp.maximum(below_surface, 0))
        return jnp.where(below_surface > 0, jnp.maximum(surface, height), surface)

    return _over_atoms(with_atom, sites, _flat(x, y, -depth))


def _isosurface(sites: _Sites, x: Array, y: Array) -> jax.Array:
    """Height at which the probe is first repelled, in Å, shape (ny, nx); minus infinity where it never is."""

    def force(z: jax.Array) -> jax.Array:
        """Force beyond the limit, in eV/Å, at heights (..., ny, nx) or (k, 1, 1)."""

        def with_atom(total: jax.Array, atom: _Sites) -> jax.Array:
            dz = z - atom.z
            inverse = jax.lax.rsqrt(_lateral_squared(atom, x, y) + dz * dz)
            u = inverse * inverse
            u3 = u * u * u
            coulomb = COULOMB * _PROBE_CHARGE * atom.charge * inverse
            return total + dz * u * (u3 * (atom.repulsion * u3 - atom.attraction) + coulomb)

        start = jnp.broadcast_to(_flat(x, y, -_REPULSION), jnp.broadcast_shapes(z.shape, (len(y), len(x))))
        return _over_atoms(with_atom, sites, start)

    heights = sites.top + jnp.asarray(_SEARCH_HEIGHTS, sites.z.dtype)
    excess = force(heights[:, None, None])
    first = jnp.argmax(excess > 0, axis=0)
    before = jnp.maximum(first - 1, 0)
    bracket = _Bracket(heights[before], _slice(excess, before), heights[first], _slice(excess, first))
    for _ in range(_REFINEMENTS):
        bracket = bracket.narrowed(force)
    return jnp.where(jnp.any(excess > 0, axis=0), bracket.crossing, -jnp.inf)


@dataclass(frozen=True)
class _Bracket:
    """Heights above and below the crossing, and the excess of the force there: negative above, positive below."""

    above: jax.Array
    excess_above: jax.Array
    below: jax.Array
    excess_below: jax.Array

    @property
    def crossing(self) -> jax.Array:
        """Where the line through both ends is zero."""
        slope = self.excess_below - self.excess_above
        # Both ends are the same where the force is too strong from the start.
        share = jnp.where(slope > 0, self.excess_below / jnp.where(slope > 0, slope, 1), 0)
        return self.below + share * (self.above - self.below)

    def narrowed(self, force: Callable[[jax.Array], jax.Array]) -> "_Bracket":
        """Replace one end by the crossing; the other, if it stayed twice, loses half its weight (Illinois rule)."""
        middle = self.crossing
        excess = force(middle)
        is_below = excess > 0
        return _Bracket(
            jnp.where(is_below, self.above, middle),
            jnp.where(is_below, self.excess_above / 2, excess),
            jnp.where(is_below, middle, self.below),
            jnp.where(is_below, excess, self.excess_below / 2),
        )


def _slice(stack: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(stack, index[None], axis=0)[0]


def _over_atoms(with_atom: Callable[[jax.Array, _Sites], jax.Array], sites: _Sites, start: jax.Array) -> jax.Array:
    return jax.lax.scan(lambda total, atom: (with_atom(total, atom), None), start, sites)[0]


def _lateral_squared(atom: _Sites, x: Array, y: Array) -> jax.Array:
    """Squared distances of the pixels from the axis of one atom, in Å², shape (ny, nx)."""
    return (jnp.asarray(x, atom.x.dtype) - atom.x) ** 2 + ((jnp.asarray(y, atom.y.dtype) - atom.y) ** 2)[:, None]


def _flat(x: Array, y: Array, value: float) -> jax.Array:
    return jnp.full((len(y), len(x)), value, jnp.float32)


def _above_background(surface: jax.Array) -> jax.Array:
    return surface - jnp.min(surface)
