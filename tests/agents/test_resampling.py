"""Stacks of other sizes and spacings: resampled where that is sound, refused where it is not."""

from dataclasses import replace

import numpy as np
import pytest

from twinscope.agents.structure_discovery.resampling import resampled
from twinscope.agents.structure_discovery.stack import PUBLISHED_GRID, ImageStack
from twinscope.errors import InvalidRequestError
from twinscope.kernels import Cantilever


def stack(pixels: int = 128, size: float = 16.0, z: np.ndarray | None = None, lines: int | None = None) -> ImageStack:
    """A smooth picture, known everywhere: the sum of a wave along x and one along y, which falls with the height."""
    x = (np.arange(pixels) + 0.5) / pixels * size - size / 2 + 3.0
    y = (np.arange(lines or pixels) + 0.5) / (lines or pixels) * size - size / 2 - 1.0
    heights = np.linspace(4.1, 3.2, 10) if z is None else z
    return ImageStack(picture(x, y, heights), x, y, heights, Cantilever())


def picture(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    wave = np.sin(x)[None, None, :] + np.cos(1.3 * y)[None, :, None]
    return (wave * np.exp(-z)[:, None, None] * 50).astype(np.float32)


def test_a_stack_of_the_right_grid_is_left_alone() -> None:
    given = stack(size=128 * PUBLISHED_GRID.pitch)
    ready = resampled(given, PUBLISHED_GRID)
    np.testing.assert_array_equal(ready.frequency_shift, given.frequency_shift)
    assert ready.notes == ()


@pytest.mark.parametrize(("pixels", "size"), [(128, 16.0), (80, 16.0), (200, 16.0), (128, 14.0), (96, 20.0)])
def test_pixels_are_interpolated_and_that_is_said(pixels: int, size: float) -> None:
    ready = resampled(stack(pixels, size), PUBLISHED_GRID)
    np.testing.assert_allclose(np.diff(ready.x), PUBLISHED_GRID.pitch)
    assert ready.shape[1] % 8 == ready.shape[2] % 8 == 0
    inner = (slice(None), slice(4, -4), slice(4, -4))
    expected = picture(ready.x, ready.y, ready.z)
    assert np.abs(ready.frequency_shift - expected)[inner].max() < 0.01 * np.ptp(expected)
    assert any("interpolated" in note for note in ready.notes)


def test_the_lowest_slice_stays_the_lowest_and_missing_ones_are_nan() -> None:
    few = resampled(stack(z=np.array([3.5, 3.4, 3.2])), PUBLISHED_GRID)
    measured = few.measured.all((1, 2))
    np.testing.assert_array_equal(np.flatnonzero(measured), [6, 7, 9])
    assert "7 of 10 heights of the network are missing" in few.notes
    many = resampled(stack(z=np.linspace(5.2, 3.2, 21)), PUBLISHED_GRID)
    np.testing.assert_allclose(many.z, np.linspace(4.1, 3.2, 10))
    assert "11 slices above" in " ".join(many.notes)


def test_close_heights_are_interpolated_and_far_ones_are_not() -> None:
    ready = resampled(stack(z=np.arange(4.2, 3.19, -0.15)), PUBLISHED_GRID)
    assert ready.measured.all((1, 2)).sum() >= 9
    expected = picture(ready.x, ready.y, ready.z)[ready.measured]
    # Straight lines between heights 0.15 Å apart.
    assert np.abs(ready.frequency_shift[ready.measured] - expected).max() < 0.02 * np.ptp(expected)
    coarse = resampled(stack(z=np.arange(4.2, 3.19, -0.2)), PUBLISHED_GRID)
    assert coarse.measured.all((1, 2)).sum() == 5


def test_lines_that_were_not_measured_stay_unknown() -> None:
    given = stack()
    values = given.frequency_shift.copy()
    values[9, 60:] = np.nan
    ready = resampled(replace(given, frequency_shift=values), PUBLISHED_GRID)
    assert ready.measured[9, :58].all()
    assert not ready.measured[9, 62:].any()
    assert ready.measured[:9].all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (stack(40), r"pixels along x are 0\.4 Å apart: expected at most 0\.28 Å"),
        (stack(64, 8.0), r"the frame is 8 Å along x: expected 9\.6 to 24 Å"),
        (stack(256, 32.0), r"the frame is 32 Å along x"),
        (replace(stack(), x=stack().x ** 3 / 100), "not equidistant"),
        (replace(stack(), frequency_shift=np.full((10, 128, 128), 2.5)), "slice 0 of the stack .* is constant, 2.5 Hz"),
    ],
)
def test_what_is_not_sound_is_refused(given: ImageStack, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        resampled(given, PUBLISHED_GRID)
