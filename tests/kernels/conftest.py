"""What the tests of the kernels are held against: slow and plain NumPy float64, and the golden data."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

from twinscope.kernels import ELEMENTS, Atoms, Tip, atomic_number

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
COULOMB = 14.399645
EV_PER_SQUARE_ANGSTROM = 16.0217662


@pytest.fixture
def x64():
    """Compute in double precision inside of one test only."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Name a precision, one after the other, in which JAX computes inside of this test."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


class Reference:
    """The probe-particle model, one interaction after the other; nothing here is shared with the kernels."""

    @staticmethod
    def mixed(number, probe):
        """R_ij in Å and eps_ij in eV."""
        atom, tip = ELEMENTS[int(number) - 1], ELEMENTS[atomic_number(probe) - 1]
        return atom.radius + tip.radius, (atom.depth * tip.depth) ** 0.5

    @staticmethod
    def images(atoms):
        """Shifts of all periodic images."""
        if atoms.cell is None:
            return [np.zeros(3)]
        a, b, c = np.asarray(atoms.cell, float)
        na, nb, nc = atoms.periodic_images
        counts = itertools.product(range(-na, na + 1), range(-nb, nb + 1), range(-nc, nc + 1))
        return [i * a + j * b + k * c for i, j, k in counts]

    @classmethod
    def sample_energy(cls, atoms, tip, points):
        """Energy of the probe at points (n, 3), in eV."""
        return cls._sum(atoms, tip, points)[0]

    @classmethod
    def sample_force(cls, atoms, tip, points):
        """Force on the probe at points (n, 3), in eV/Å."""
        return cls._sum(atoms, tip, points)[1]

    @classmethod
    def _sum(cls, atoms, tip, points):
        points = np.asarray(points, float)
        energy, force = np.zeros(len(points)), np.zeros((len(points), 3))
        charges = np.zeros(len(atoms.numbers)) if atoms.charges is None else np.asarray(atoms.charges, float)
        for shift in cls.images(atoms):
            for number, position, charge in zip(
                atoms.numbers, np.asarray(atoms.positions, float) + shift, charges, strict=True
            ):
                radius, depth = cls.mixed(number, tip.element)
                d = points - position
                r = np.linalg.norm(d, axis=1)
                q = radius / r
                energy += depth * (q**12 - 2 * q**6)
                force += (12 * depth * (q**12 - q**6) / r**2)[:, None] * d
                for tip_charge, height in tip.charges:
                    d = points + np.array([0, 0, height]) - position
                    r = np.linalg.norm(d, axis=1)
                    energy += COULOMB * charge * tip_charge / r
                    force += (COULOMB * charge * tip_charge / r**3)[:, None] * d
        return energy, force

    @staticmethod
    def rest(tip):
        """Rest position of the probe, from the anchor."""
        x0, y0, length = tip.rest
        return np.array([x0, y0, -((length**2 - x0**2 - y0**2) ** 0.5)])

    @classmethod
    def spring_energy(cls, tip, displacement):
        """Energy of the springs for displacements (n, 3), in eV."""
        *k, radial = np.array(tip.stiffness, float) / EV_PER_SQUARE_ANGSTROM
        d = np.asarray(displacement, float) + cls.rest(tip)
        elongation = np.linalg.norm(d, axis=1) - tip.rest[2]
        return 0.5 * ((d - cls.rest(tip)) ** 2 @ np.array(k) + radial * elongation**2)

    @classmethod
    def spring_force(cls, tip, displacement):
        """Force of the springs for displacements (n, 3), in eV/Å."""
        *k, radial = np.array(tip.stiffness, float) / EV_PER_SQUARE_ANGSTROM
        d = np.asarray(displacement, float) + cls.rest(tip)
        length = np.linalg.norm(d, axis=1, keepdims=True)
        return -np.array(k) * (d - cls.rest(tip)) - radial * (length - tip.rest[2]) * d / length

    @staticmethod
    def gradient(energy, points, step=1e-4):
        """Central differences of energy(points (n, 3)), shape (n, 3)."""
        shifts = step * np.eye(3)
        return np.stack([(energy(points + d) - energy(points - d)) / (2 * step) for d in shifts], axis=-1)


@pytest.fixture(scope="session")
def reference():
    """The model in plain NumPy."""
    return Reference


@pytest.fixture
def benzene():
    """Return a flat, charged benzene with its centre at the origin, in a given precision."""

    def make(dtype="float32", shift=(0, 0, 0)):
        angles = np.arange(6) * np.pi / 3
        ring = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=-1)
        positions = np.concatenate([1.39 * ring, 2.48 * ring]) + shift
        return Atoms(np.repeat([6, 1], 6), positions.astype(dtype), np.repeat([-0.12, 0.12], 6).astype(dtype))

    return make


@dataclass(frozen=True)
class Golden:
    """One case of the golden data; arrays are in the files' order (ix, iy, iz)."""

    atoms: Atoms
    tip: Tip
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    weights: np.ndarray
    stable: np.ndarray
    arrays: dict
    uncertainty: dict

    def df(self, force):
        """Frequency shift with the weights of the file, (ix, iy, layer)."""
        n = len(self.weights)
        return np.stack([force[..., k : k + n] @ self.weights for k in range(force.shape[-1] - n + 1)], axis=-1)

    def stable_layers(self):
        """Tell where all forces behind a value of df are stable."""
        n = len(self.weights)
        return np.stack([self.stable[..., k : k + n].all(-1) for k in range(self.stable.shape[-1] - n + 1)], axis=-1)


@pytest.fixture(scope="session")
def golden_folder():
    """Folder of the golden data."""
    if not GOLDEN.is_dir():
        pytest.skip(f"the golden data are not at {GOLDEN}: put the folder shared/ beside the checkout")
    return GOLDEN


@pytest.fixture(scope="session")
def golden(golden_folder):
    """Return a function that reads a case of the golden data in a given precision."""

    def read(name, dtype="float32"):
        with h5py.File(golden_folder / f"{name}.h5") as file:
            tip, sample, scan = file["tip"].attrs, file["sample"], file["scan"]
            charges = sample["q"][:] if file.attrs["method"] != "LJ" else np.zeros(len(sample["q"]))
            arrays = {
                key: file[key][:] for key in ("out/df", "out/df_exact", "out/Fz", "out/Fz_exact_last") if key in file
            }
            arrays |= {key: file["ff_nodes"][key][:] for key in ("xyz", "FE")}
            arrays |= {key: np.array(file["grid"].attrs[key]) for key in ("lvec", "n")}
            stable = file["out/stable"][:].astype(bool)
            if "out/stable_exact" in file:
                stable &= file["out/stable_exact"][:].astype(bool)
            return Golden(
                Atoms(
                    sample["Z"][:],
                    sample["xyz"][:].astype(dtype),
                    charges.astype(dtype),
                    sample.attrs["lvec"][-3:] if "lvec" in sample.attrs else None,
                    tuple(int(n) for n in sample.attrs["npbc"]),
                ),
                Tip(
                    int(tip["iZPP"]),
                    tuple(float(v) for v in tip["tipR0"]),
                    tuple(float(v) for v in tip["tipStiffness"]),
                    tuple((float(q), float(z)) for q, z in zip(tip["Qs"], tip["QZs"], strict=True) if q),
                ),
                *(scan[axis][:].astype(dtype) for axis in ("x", "y", "z_tip")),
                file["out/W"][:],
                stable,
                arrays,
                json.loads(file.attrs["uncertainty"]),
            )

    return read


@pytest.fixture(scope="session")
def golden_volumes(golden_folder):
    """Return a function that reads the grids, nodes and parameters of a case with potentials or densities."""

    def read(name, group):
        with h5py.File(golden_folder / f"{name}.h5") as file:
            arrays = {key: np.asarray(value, float) for key, value in file[group].items()}
            attributes = {key: np.asarray(value) for key, value in file[group].attrs.items() if key != "note"}
            nodes = {key: file["ff_nodes"][key][:].astype(float) for key in ("xyz", "FE")}
        return arrays | attributes | nodes

    return read
