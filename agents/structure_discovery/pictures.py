"""Stacks of pictures whose grey values have lost their unit: what is published is often all there is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from twinscope.agents.structure_discovery.stack import PUBLISHED_GRID, ImageStack, gradient_per_hertz
from twinscope.errors import InvalidRequestError
from twinscope.kernels import Cantilever

# Median over simulated stacks of the spread of the force gradient over a slice, in N/m, from the highest to the lowest.
_TYPICAL_SPREADS = (0.052, 0.058, 0.063, 0.069, 0.072, 0.078, 0.086, 0.094, 0.108, 0.119)


def stack_from_pictures(
    pictures: Sequence[ArrayLike], pitch: float, *, spacing: float = PUBLISHED_GRID.spacing
) -> ImageStack:
    """Make a stack of pictures each of which was scaled by itself, such as 8-bit images.

    How strong the contrast of a slice was is not known any more: each gets that of an average molecule at its height.
    What a network says of the height and of the sizes of atoms is less certain than for data with a unit.

    Parameters
    ----------
    pictures
        From far to near, at most ten, each of shape (ny, nx) with the first line at the bottom; bright where the
        frequency shift is high, which is where the tip is repelled.
    pitch
        Distance of neighbouring pixels, in Å.
    spacing
        Distance of neighbouring heights, in Å.

    Returns
    -------
    ImageStack
        With a note that says so. x and y begin at zero, z ends there.

    Raises
    ------
    InvalidRequestError
        When there are too many pictures, or none, they have different shapes, or one has no contrast.
    """
    most = len(_TYPICAL_SPREADS)
    if not 1 <= len(pictures) <= most:
        raise InvalidRequestError(f"there are {len(pictures)} pictures: expected 1 to {most}, from far to near")
    if not (pitch > 0 and spacing > 0):
        raise InvalidRequestError(f"pitch is {pitch} Å and spacing {spacing} Å: expected lengths above zero")
    images = [np.asarray(picture, dtype=float) for picture in pictures]
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1 or images[0].ndim != 2:
        raise InvalidRequestError(f"the pictures have the shapes {shapes}: expected one shape (ny, nx) for all of them")
    values = np.stack(images)
    spreads = values.std(axis=(1, 2), keepdims=True)
    if not (spreads > 0).all():
        flat = np.flatnonzero(~(spreads.ravel() > 0)).tolist()
        raise InvalidRequestError(f"the pictures {flat} have no contrast: leave them out")
    sensor = Cantilever()
    typical = np.array(_TYPICAL_SPREADS[most - len(images) :])[:, None, None]
    # A high frequency shift is a negative gradient of the force.
    gradient = (values - values.mean(axis=(1, 2), keepdims=True)) / spreads * typical
    ny, nx = images[0].shape
    return ImageStack(
        -gradient / gradient_per_hertz(sensor),
        np.arange(nx) * pitch,
        np.arange(ny) * pitch,
        np.arange(len(images))[::-1] * spacing,
        sensor,
        notes=("the slices were scaled separately: each was given the contrast of an average molecule at its height",),
    )
