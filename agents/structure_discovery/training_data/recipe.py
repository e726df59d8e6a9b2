"""How training data are made: everything that is drawn at random, with its range."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from twinscope.agents.structure_discovery.stack import PUBLISHED_GRID, StackGrid
from twinscope.errors import InvalidRequestError
from twinscope.kernels import ELEMENTS, Tip, atomic_number

Range = tuple[float, float]

TIPS: dict[str, Tip] = {
    # That of the published networks; Recipe.quadrupole_share of the CO tips are a Tip() instead.
    "CO": Tip("O", rest=(0.0, 0.0, 4.0), stiffness=(0.25, 0.25, 0.0, 30.0), charges=((-0.1, 0.0),)),
    # Oinonen et al., ACS Nano 16, 89 (2022).
    "Xe": Tip("Xe", rest=(0.0, 0.0, 4.0), stiffness=(0.25, 0.25, 0.0, 30.0), charges=((0.3, 0.0),)),
}
"""What can be at the end of a tip."""


def probe_radius(tip: Tip) -> float:
    """Van der Waals radius of the probe of a tip, in Å."""
    return ELEMENTS[atomic_number(tip.element) - 1].radius


def lowest_height(numbers: np.ndarray, heights: np.ndarray, tip: Tip, clearance: float) -> float:
    """Height of a resting probe whose van der Waals sphere is a clearance above the highest of those of atoms, in Å.

    Parameters
    ----------
    numbers, heights
        Atomic numbers, and heights in Å, shape (n,).
    tip
        Whose probe.
    clearance
        In Å; negative where spheres overlap.
    """
    radii = np.array([ELEMENTS[int(number) - 1].radius for number in numbers])
    return float(np.max(heights + radii)) + probe_radius(tip) + clearance


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Ranges from which every sample is drawn, uniformly and independently.

    Attributes
    ----------
    grid
        Pixels and heights of the images.
    tips
        One stack is simulated for each, names from :data:`TIPS`.
    clearance
        Distance from the probe's van der Waals sphere to the highest one of the molecule, in Å, for a probe that hangs
        straight, in the lowest slice at the middle of the oscillation. Negative: the spheres overlap.
    tip_mismatch
        The second tip comes closer than the first, or less close, by up to this, in Å.
    tilt
        The rest position of the probe lies in a disk of this radius, in Å, around the axis of the tip; each tip has its
        own.
    follows_tilt
        True when the images are in the coordinates of the resting probe, so that they show the molecule where it is;
        False for those of the tip, as published: they are then displaced by the tilt.
    lateral_stiffness
        Of the probe, in N/m.
    tip_charge
        Of a CO tip with a monopole, in e.
    quadrupole_share
        Share of samples whose CO tip carries the quadrupole of :class:`~twinscope.kernels.Tip` instead.
    amplitude
        Of the oscillation, peak to peak, in Å.
    charge_scale
        What the charges of a molecule are multiplied by.
    orientations, flattest
        A molecule lies as in one of the `flattest` out of this number of evenly distributed orientations.
    spin
        True for any angle about the z axis as well.
    free_share
        Share of samples with any orientation, however many atoms are out of sight.
    offset
        The centre of the molecule is off that of the image by up to this along x and y, in Å.
    atoms
        Length of the list of atoms, for all molecules.

    Raises
    ------
    InvalidRequestError
        When a range is empty, a share is no share, or something is unknown.
    """

    grid: StackGrid = PUBLISHED_GRID
    tips: tuple[str, ...] = ("CO",)
    clearance: Range = (-0.6, -0.1)
    tip_mismatch: float = 0.0
    tilt: float = 0.5
    follows_tilt: bool = False
    lateral_stiffness: Range = (0.25, 0.25)
    tip_charge: Range = (-0.1, -0.1)
    quadrupole_share: float = 0.0
    amplitude: Range = (1.0, 1.0)
    charge_scale: Range = (1.0, 1.0)
    orientations: int = 100
    flattest: int = 30
    spin: bool = False
    free_share: float = 0.0
    offset: float = 0.0
    atoms: int = 80

    def __post_init__(self) -> None:
        for name in ("clearance", "lateral_stiffness", "tip_charge", "amplitude", "charge_scale"):
            self._check_range(name, positive=name in ("lateral_stiffness", "amplitude"))
        for name in ("quadrupole_share", "free_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidRequestError(f"{name} is {getattr(self, name)}: expected a share from 0 to 1", name=name)
        for name in ("tip_mismatch", "tilt", "offset"):
            if not 0 <= getattr(self, name) < np.inf:
                raise InvalidRequestError(f"{name} is {getattr(self, name)} Å: expected 0 or more", name=name)
        unknown = [tip for tip in self.tips if tip not in TIPS]
        if unknown or not self.tips:
            raise InvalidRequestError(f"tips are {self.tips}: expected one or more of {sorted(TIPS)}", name="tips")
        if self.tilt >= min(tip.rest[2] for tip in (*TIPS.values(), Tip())):
            raise InvalidRequestError(f"tilt is {self.tilt} Å: expected less than the length of the tip", name="tilt")
        if not 1 <= self.flattest <= self.orientations:
            raise InvalidRequestError(
                f"flattest is {self.flattest}: expected 1 to {self.orientations}, the number of orientations"
            )
        if self.atoms < 1:
            raise InvalidRequestError(f"atoms is {self.atoms}: expected room for one atom or more", name="atoms")

    def _check_range(self, name: str, *, positive: bool) -> None:
        low, high = getattr(self, name)
        if not (np.isfinite([low, high]).all() and low <= high and (low > 0 or not positive)):
            what = "positive numbers" if positive else "numbers"
            raise InvalidRequestError(f"{name} is {(low, high)}: expected two {what}, the lower first", name=name)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild a recipe from :meth:`to_dict`.

        Raises
        ------
        InvalidRequestError
            When something is missing, unknown or makes no sense.
        """
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        try:
            return cls(**{**values, "grid": StackGrid(**data["grid"])})
        except (KeyError, TypeError) as exc:
            raise InvalidRequestError(f"this is no recipe for training data: {exc}") from exc


PUBLISHED = Recipe()
"""That of the published networks: Alldritt et al., Sci. Adv. 6, eaay6913 (2020)."""

TWINSCOPE = replace(
    PUBLISHED,
    clearance=(-0.75, 0.05),
    tip_mismatch=0.1,
    follows_tilt=True,
    lateral_stiffness=(0.20, 0.35),
    tip_charge=(-0.2, 0.1),
    quadrupole_share=0.5,
    amplitude=(0.6, 1.4),
    charge_scale=(0.5, 1.5),
    spin=True,
    free_share=0.1,
    offset=1.0,
)
"""Ours: a network that learns from it need not be told how the measurement was made."""

TWO_TIPS = replace(TWINSCOPE, tips=("CO", "Xe"))
"""The same with a second stack, taken with xenon at the tip: what differs between them tells the charges."""
