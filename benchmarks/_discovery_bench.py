"""What the parts of the benchmark of structure discovery share."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from _discovery_data import ALIGNED, TestSet, imaged, test_molecules
from _discovery_models import Model, Ours, Published
from _report import Figure, Report

UNITS = ("", "Å", "Å", "V/Å")
"""Of the errors of the maps, in the order of DESCRIPTORS."""

SQUARED_UNITS = ("", "Å²", "Å²", "(V/Å)²")


@dataclass
class Bench:
    """The settings of a run, and its report.

    Attributes
    ----------
    report
        Where rows go.
    published, ours
        None where the weights are not there.
    count
        Number of molecules of a test set.
    seed
        Of orientations and noise.
    refined
        Of how many molecules the structure is refined.
    foreign
        Stacks of another simulator.
    """

    report: Report
    published: Published | None
    ours: Ours | None
    count: int
    seed: int
    refined: int
    foreign: Path

    @property
    def models(self) -> list[Model]:
        """Those that are there, ours first."""
        return [model for model in (self.ours, self.published) if model is not None]

    @cached_property
    def aligned(self) -> TestSet:
        """The test set of most parts: :data:`ALIGNED`."""
        return imaged(test_molecules(self.count), ALIGNED, self.seed)

    def add(self, what: str, figures: Mapping[str, float], unit: str, target: float | None = None) -> None:
        """Add a row with the first model beside the second one; the target is ours."""
        (name, value), *others = figures.items()
        peer = (others[0][0], Figure((others[0][1],), unit)) if others else None
        if self.ours is None or name != self.ours.name:
            what, target = f"{what}, {name}", None
        self.report.add(what, Figure((value,), unit), peer=peer, target=target)
