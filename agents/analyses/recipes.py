"""How windows of an image become features: as published, and in two ways that do not depend on its unit."""

from dataclasses import dataclass
from typing import Literal

from twinscope.errors import InvalidRequestError

Spectrum = Literal["log_offset", "log_ratio", "radial"]

_SPECTRA: tuple[Spectrum, ...] = ("log_offset", "log_ratio", "radial")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of the analysis by windows, Fourier transforms and factors.

    Attributes
    ----------
    name
        For people.
    window, step
        Side of the square windows, and the distance between them, in pixels; windows have an even side.
    level
        Whether the mean of each window is taken off: else it is the strongest feature.
    spectrum
        What is factorised: "log_offset", the logarithm of the power plus `offset`; "log_ratio", the logarithm of one
        plus the power in units of its median; "radial", the same, averaged over all directions, so that grains that are
        only turned are alike.
    offset
        In the unit of the image, squared.
    components
        Number of factors; None to take it from the curve of explained variance.
    iterations, tolerance
        Of :func:`~.nmf.factorise`.

    Raises
    ------
    InvalidRequestError
        When a value makes no sense.
    """

    name: str
    window: int = 128
    step: int = 64
    level: bool = True
    spectrum: Spectrum = "log_ratio"
    offset: float = 1e4
    components: int | None = None
    iterations: int = 200
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("window", "step", "offset", "components", "iterations", "tolerance"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidRequestError(f"{name} is {value}: expected a number above zero", name=name)
        if self.window % 2 or self.window < 8:
            raise InvalidRequestError(f"window is {self.window}: expected an even number from 8 on", name="window")
        if self.step > self.window:
            raise InvalidRequestError(
                f"step is {self.step} and window {self.window}: expected steps of at most a window, or pixels are left"
                " out",
                name="step",
            )
        if self.spectrum not in _SPECTRA:
            raise InvalidRequestError(f"spectrum is {self.spectrum!r}: expected {', '.join(_SPECTRA)}", name="spectrum")


JANY2020 = Recipe(name="jany2020", level=False, spectrum="log_offset")
"""That of Jany, Janas and Krok, Micron 130, 102800 (2020), as its program has it."""

ROBUST = Recipe(name="robust")
"""Tells lattices and their orientations apart, whatever the unit of the image."""

ROTATION_INVARIANT = Recipe(name="rotation_invariant", spectrum="radial")
"""Tells lattices apart, however they are turned."""

RECIPES = {recipe.name: recipe for recipe in (JANY2020, ROBUST, ROTATION_INVARIANT)}
"""By name."""
