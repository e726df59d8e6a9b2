"""The input of structure discovery: a stack of frequency-shift images at falling heights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from twinscope.errors import InvalidRequestError
from twinscope.kernels import NEWTON_PER_METRE, Cantilever, frequency_shift_weights
from twinscope.results import Scan

_ANGSTROM = 1e-10
# Distance of the heights at which forces are computed, in Å: the frequency shift of a cubic polynomial is exact.
_STEP = 0.1
_FEWEST_PIXELS = 16
_CHANNEL = "frequency_shift"
# How the settings of our drivers name what the fields of a Cantilever are, and how many of the setting make one.
_SENSOR_SETTINGS = {
    "frequency": ("resonance_frequency", 1.0),
    "stiffness": ("spring_constant", 1.0),
    "amplitude": ("amplitude", 1 / _ANGSTROM),
}


@dataclass(frozen=True, slots=True)
class StackGrid:
    """The grid that a network was trained on: square images of square pixels, at equidistant heights.

    Attributes
    ----------
    pixels
        Along x and along y.
    pitch
        Distance of neighbouring pixels, in Å.
    slices
        Number of heights.
    spacing
        Distance of neighbouring heights, in Å.
    """

    pixels: int
    pitch: float
    slices: int
    spacing: float

    @property
    def size(self) -> float:
        """Distance of the first and the last pixel of a line, in Å."""
        return (self.pixels - 1) * self.pitch

    def axis(self) -> np.ndarray:
        """Coordinates of the pixels about the middle of the image, in Å, shape (pixels,)."""
        return (np.arange(self.pixels) - (self.pixels - 1) / 2) * self.pitch


PUBLISHED_GRID = StackGrid(pixels=128, pitch=16 / 127, slices=10, spacing=0.1)
"""The grid of Alldritt et al., Sci. Adv. 6, eaay6913 (2020): 16 Å and ten heights over 0.9 Å."""


@dataclass(frozen=True, eq=False)
class ImageStack:
    """Frequency shift over a rectangle, at falling heights.

    Attributes
    ----------
    frequency_shift
        Hz, shape (nz, ny, nx), from far to near; NaN where nothing was measured.
    x, y
        Å, shapes (nx,) and (ny,), rising.
    z
        Å, shape (nz,), falling: heights of the middle of the oscillation, from any origin.
    cantilever
        The sensor. Its resonance frequency and stiffness make a force gradient of the frequency shift.
    tip
        What is at its end: "CO", "Xe".
    notes
        What was done to the data since they were measured, for people.

    Raises
    ------
    InvalidRequestError
        When shapes do not fit together, axes do not run the right way, or nothing was measured.
    """

    frequency_shift: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    cantilever: Cantilever
    tip: str = "CO"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, way in (("x", 1), ("y", 1), ("z", -1)):
            values = np.asarray(getattr(self, name), dtype=float)
            object.__setattr__(self, name, values)
            if values.ndim != 1 or not np.isfinite(values).all() or (np.diff(values) * way <= 0).any():
                run = "rising" if way > 0 else "falling, from far to near"
                raise InvalidRequestError(
                    f"{name} of the stack is {values}: expected a list of {run} coordinates in Å", name=name
                )
        values = np.asarray(self.frequency_shift, dtype=np.float32)
        object.__setattr__(self, "frequency_shift", values)
        expected = (len(self.z), len(self.y), len(self.x))
        if values.shape != expected:
            raise InvalidRequestError(
                f"frequency_shift of the stack has the shape {values.shape}: expected {expected}, which is z by y by x"
            )
        if min(expected[1:]) < _FEWEST_PIXELS or expected[0] < 1:
            raise InvalidRequestError(
                f"the stack has {expected[2]} x {expected[1]} pixels at {expected[0]} heights: expected at least"
                f" {_FEWEST_PIXELS} x {_FEWEST_PIXELS} at one height"
            )
        if not np.isfinite(values).any():
            raise InvalidRequestError("the stack has no value that was measured: all are NaN")

    @classmethod
    def from_scan(
        cls, scan: Scan, *, channel: str = _CHANNEL, cantilever: Cantilever | None = None, tip: str | None = None
    ) -> Self:
        """Make a stack of a scan at several constant heights, in whatever order they were taken.

        Parameters
        ----------
        scan
            A result with the axes (height, y, x), or (y, x) for one height. x and y of the stack are those of the frame
            about the middle of which it was turned; at the angle zero, those of the sample.
        channel
            Name of the recorded frequency shift.
        cantilever
            The sensor; unless given, the settings of the instrument tell.
        tip
            What is at its end; unless given, the instrument tells, or else it is "CO".

        Raises
        ------
        InvalidRequestError
            When the scan was not taken at constant height, or the sensor is not known.
        """
        if scan.request.z_mode != "constant_height":
            raise InvalidRequestError(
                f"the scan was taken in the z-mode {scan.request.z_mode!r}: expected constant_height"
            )
        settings = scan.metadata.get("instrument", {}).get("settings", {})
        data = scan[channel]
        axes = {axis.name: axis.values / _ANGSTROM for axis in data.axes}
        values = data.values if "height" in axes else data.values[None]
        heights = axes.get("height", np.zeros(1))
        order = np.argsort(-heights)
        known = scan.metadata.get("probe") or settings.get("tip")
        return cls(
            values[order],
            axes["x"],
            axes["y"],
            heights[order],
            cantilever or _cantilever(settings),
            tip or (known if isinstance(known, str) else "CO"),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Heights, lines and pixels of a line."""
        nz, ny, nx = self.frequency_shift.shape
        return nz, ny, nx

    @property
    def measured(self) -> np.ndarray:
        """Where something was measured: shape (nz, ny, nx)."""
        return np.isfinite(self.frequency_shift)

    @property
    def force_gradient(self) -> np.ndarray:
        """Weighted mean of the force gradient over the oscillation, -2 k df / f0, in N/m: the same for every sensor."""
        return (gradient_per_hertz(self.cantilever) * self.frequency_shift).astype(np.float32)


def gradient_per_hertz(cantilever: Cantilever) -> float:
    """Force gradient (N/m) for each Hz of frequency shift: ``-2 k / f0`` (Giessibl, Rev. Mod. Phys. 75, 949 (2003))."""
    return -2 * cantilever.stiffness / cantilever.frequency


def gradient_weights(centres: np.ndarray, heights: np.ndarray, amplitude: float) -> np.ndarray:
    """Weights (nz, nf) from forces along z, in eV/Å, to force gradients over the oscillation, in N/m.

    Parameters
    ----------
    centres
        Å, shape (nz,): middles of the oscillation.
    heights
        Å, shape (nf,), at which forces are known, from far to near.
    amplitude
        Peak to peak, in Å.
    """
    return 2 / NEWTON_PER_METRE * frequency_shift_weights(centres, heights, amplitude)


def force_heights(centres: np.ndarray, amplitude: float) -> tuple[np.ndarray, np.ndarray]:
    """Return heights at which forces are to be known, and what makes force gradients of them.

    Parameters
    ----------
    centres
        Å, shape (nz,): middles of the oscillation, from far to near.
    amplitude
        Peak to peak, in Å.

    Returns
    -------
    tuple of ndarray
        Å, shape (nf,), from far to near; and the :func:`gradient_weights`, shape (nz, nf).
    """
    highest, lowest = centres[0] + amplitude / 2, centres[-1] - amplitude / 2
    levels = np.linspace(highest, lowest, max(int(np.ceil((highest - lowest) / _STEP)), 4) + 1)
    return levels, gradient_weights(centres, levels, amplitude)


def _cantilever(settings: Mapping[str, Any]) -> Cantilever:
    missing = [setting for setting, _ in _SENSOR_SETTINGS.values() if setting not in settings]
    if missing:
        raise InvalidRequestError(
            f"the settings of the instrument do not tell {', '.join(missing)} of its sensor: pass cantilever="
        )
    return Cantilever(
        **{name: float(settings[setting]) * factor for name, (setting, factor) in _SENSOR_SETTINGS.items()}
    )
