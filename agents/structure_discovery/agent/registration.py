"""Where a molecule is in images of another tip: what they should show is simulated, and looked for.

Images of two tips differ too much to be laid over each other: of 40 unseen molecules, the farthest slices of CO and
xenon were put 1.2 Å off in the median, the nearest ones 0.5 Å with single molecules 5 Å off. The simulated image of
what the first tip has shown, without charges, finds 40 of 40 within 0.9 Å and half of them within 0.4 Å; 0.4 Å make
the electrostatic map of a network worse by 7 %.
"""

import numpy as np
from scipy import ndimage

from twinscope.agents.structure_discovery.stack import ImageStack, force_heights
from twinscope.agents.structure_discovery.structure import Structure
from twinscope.agents.structure_discovery.training_data.recipe import PUBLISHED, TIPS, lowest_height
from twinscope.errors import InvalidRequestError
from twinscope.kernels import Atoms, ScanGrid, simulate_batch

# Details between these sizes (Å) are compared: smaller ones are noise, larger ones charges.
_FINEST, _COARSEST = 0.25, 2.0
# Every second pixel of the simulation is computed.
_STRIDE = 2


def displacement(structure: Structure, stack: ImageStack) -> tuple[float, float]:
    """Return how far along x and y a molecule is from where it should be, in Å.

    Parameters
    ----------
    structure
        The molecule, as another tip has shown it, in coordinates of the stack.
    stack
        Measured with a tip that is known by name; slices with a missing line do not count. Its lowest slice is taken
        for the lowest of the training data.

    Raises
    ------
    InvalidRequestError
        When the tip is not known, there are no atoms, or there is no whole slice.
    """
    if stack.tip not in TIPS or not len(structure):
        raise InvalidRequestError(
            f"{len(structure)} atoms in images of the tip {stack.tip!r}: expected a molecule, and one of {sorted(TIPS)}"
        )
    layers = np.flatnonzero(stack.measured.all(axis=(1, 2)))
    if not len(layers):
        raise InvalidRequestError("no slice of the stack is whole: expected one or more in which to find the molecule")
    pitch = float(stack.x[1] - stack.x[0])
    expected = _expected(structure, stack)
    correlation = sum(
        _correlation(_details(stack.force_gradient[layer], pitch), _details(expected[layer], pitch)) for layer in layers
    )
    rows, columns = _peak(np.asarray(correlation))
    return columns * pitch, rows * pitch


def _expected(structure: Structure, stack: ImageStack) -> np.ndarray:
    """Simulate force gradients (nz, ny, nx) over a molecule without charges, in N/m."""
    tip, amplitude = TIPS[stack.tip], float(stack.cantilever.amplitude)
    lowest = lowest_height(structure.numbers, structure.positions[:, 2], tip, float(np.mean(PUBLISHED.clearance)))
    heights, weights = force_heights(stack.z - stack.z[-1], amplitude)
    x, y = (axis[::_STRIDE].astype(np.float32) for axis in (stack.x, stack.y))
    scan = ScanGrid(x, y, (lowest + heights + tip.rest[2]).astype(np.float32))
    atoms = Atoms(
        structure.numbers.astype(np.int32), structure.positions.astype(np.float32), np.zeros(len(structure), np.float32)
    )
    relaxed = simulate_batch([atoms], [tip], [scan])
    force = np.nan_to_num(np.asarray(relaxed.force_z[0], float))
    coarse = np.einsum("kz,zyx->kyx", weights, force)
    full = np.repeat(np.repeat(coarse, _STRIDE, axis=1), _STRIDE, axis=2)
    ny, nx = len(stack.y), len(stack.x)
    return full[:, :ny, :nx]


def _details(image: np.ndarray, pitch: float) -> np.ndarray:
    fine, coarse = (ndimage.gaussian_filter(image.astype(float), size / pitch) for size in (_FINEST, _COARSEST))
    return np.asarray(fine - coarse)


def _correlation(image: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Correlate an image with one that is moved by every number of rows and columns, around the edges."""
    size = [2 * length for length in image.shape]
    product = np.fft.rfft2(image, size) * np.fft.rfft2(expected, size).conj()
    return np.fft.irfft2(product, size) / np.maximum(np.linalg.norm(image) * np.linalg.norm(expected), 1e-30)


def _peak(correlation: np.ndarray) -> tuple[float, float]:
    """Return the row and column of the highest value, between pixels, in the middle of its parabola."""
    top = np.unravel_index(int(np.argmax(correlation)), correlation.shape)
    found = []
    for axis, place in enumerate(top):
        length = correlation.shape[axis]
        before, here, after = (correlation.take((place + step) % length, axis)[top[1 - axis]] for step in (-1, 0, 1))
        bend = before - 2 * here + after
        offset = 0.5 * (before - after) / bend if bend < 0 else 0.0
        found.append(float((place + offset + length / 2) % length - length / 2))
    return found[0], found[1]
