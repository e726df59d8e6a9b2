"""What a stack of images was made with is found again by following derivatives through the relaxed probe."""

import jax
import numpy as np
import pytest
from scipy.optimize import least_squares

from twinscope.kernels import Atoms, Cantilever, ScanGrid, Tip, frequency_shift, simulate

# Its time is that of compiling.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

AXIS = np.linspace(-4.5, 4.5, 16).astype("float32")
# Without snaps: a column that jumps to another branch has no derivative there.
HEIGHTS = np.arange(7.8, 6.3, -0.1).astype("float32")
STIFFNESS, CHARGE = 0.25, -0.1


@pytest.fixture
def stack(benzene):
    """Return a function: from atoms, tip stiffness and tip charge to a stack of frequency shifts."""
    atoms = benzene("float32")

    def images(positions, stiffness, charge):
        tip = Tip(stiffness=(stiffness, stiffness, 0.0, 30.0), charges=((charge, 0.0),))
        result = simulate(Atoms(atoms.numbers, positions, atoms.charges), tip, ScanGrid(AXIS, AXIS, HEIGHTS))
        return frequency_shift(result.force_z, HEIGHTS, Cantilever())[0]

    return images


def fitted(residual, start, **options):
    """Least squares with the derivatives of JAX."""
    function, derivative = jax.jit(residual), jax.jit(jax.jacfwd(residual))
    return least_squares(
        lambda p: np.asarray(function(p.astype("float32")), float),
        start,
        jac=lambda p: np.asarray(derivative(p.astype("float32")), float),
        **options,
    ).x


def test_stiffness_and_charge_of_a_tip_are_found_from_its_images(stack, benzene):
    positions = benzene("float32").positions
    hidden = stack(positions, STIFFNESS, CHARGE)
    found = fitted(lambda p: (stack(positions, p[0], p[1]) - hidden).ravel(), [0.5, 0.05], x_scale=[0.1, 0.1])
    # Measured: 1e-6.
    np.testing.assert_allclose(found, [STIFFNESS, CHARGE], rtol=0.01)


def test_displaced_atoms_are_found_from_the_images_of_a_molecule(stack, benzene):
    positions = np.asarray(benzene("float32").positions, float)
    hidden = stack(positions.astype("float32"), STIFFNESS, CHARGE)
    moves = np.random.default_rng(3).normal(size=positions.shape)
    moves *= 0.3 / np.linalg.norm(moves, axis=1, keepdims=True)
    found = fitted(
        lambda p: (stack(p.reshape(-1, 3), STIFFNESS, CHARGE) - hidden).ravel(),
        (positions + moves).ravel(),
        method="lm",
        max_nfev=60,
    )
    off = found.reshape(-1, 3) - positions
    # Measured: 1e-6 Å.
    assert np.sqrt((off**2).sum(axis=1).mean()) < 0.02
