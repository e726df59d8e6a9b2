"""Reference data of the published network: images of another simulator, and what the published weights say."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import h5py
import numpy as np

from twinscope.kernels import ELEMENTS

TIP_HEIGHT = 1.6612 + 5.0  # Å: of the tip over the highest vdW sphere at the start; radius of the probe, "distAbove".
NOISE = 0.1  # Of the range of values of an image, with which the weights were trained.
_SAMPLES_OF_NOISE = 28  # Of which the file holds some; their names begin with their number.


@dataclass(frozen=True)
class AsdSample:
    """A molecule and its images. The first axis of images in the file, which is x there, stands for y: a mirror image.

    Positions are mirrored alike, and lie about the middle of the images.
    """

    name: str
    number: int
    atomic_numbers: np.ndarray
    positions: np.ndarray
    charges: np.ndarray
    frequency_shift: np.ndarray
    maps: np.ndarray
    predicted_clean: np.ndarray
    predicted_noisy: np.ndarray

    @classmethod
    def from_group(cls, name: str, group: h5py.Group) -> Self:
        x, y, z = group["xyz"][:].T
        return cls(
            name=name,
            number=int(name[:2]),
            atomic_numbers=group["Z"][:],
            positions=np.stack([y - 8, x - 8, z], axis=1).astype(np.float32),
            charges=group["q"][:],
            frequency_shift=np.moveaxis(group["df"][:], -1, 0),
            maps=group["reference"][:],
            predicted_clean=group["pred_light_clean"][:],
            predicted_noisy=group["pred_light_noisy"][:],
        )

    @property
    def tip_start(self) -> float:
        """Height of the tip at the beginning of the approach, in Å."""
        radii = np.array([ELEMENTS[number - 1].radius for number in self.atomic_numbers])
        return float((self.positions[:, 2] + radii).max() + TIP_HEIGHT)


def asd_samples(shared: Path, *, ptcda: bool = True) -> list[AsdSample]:
    """Read the samples; PTCDA is larger than what the weights were trained on."""
    with h5py.File(shared / "asd/reference.h5") as file:
        samples = [AsdSample.from_group(name, group) for name, group in file.items()]
    return [sample for sample in samples if ptcda or "PTCDA" not in sample.name]


def noise_of(samples: list[AsdSample], images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return normalised images (n, nz, ny, nx) with the noise that the file's predictions were made with."""
    _, slices, ny, nx = images.shape
    noise = np.random.default_rng(seed).random((_SAMPLES_OF_NOISE, ny, nx, slices))
    own = np.moveaxis(noise[[sample.number for sample in samples]], -1, 1)
    size = np.ptp(images, axis=(-2, -1), keepdims=True)
    return (images + NOISE * (own - 0.5) * size).astype(np.float32)
