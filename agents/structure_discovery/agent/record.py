"""What an agent has done and found."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from twinscope.agents.structure_discovery.agent.approach import Framed
from twinscope.agents.structure_discovery.agent.operator import ANGSTROM
from twinscope.agents.structure_discovery.agent.options import DiscoveryOptions
from twinscope.agents.structure_discovery.agent.overview import Overview
from twinscope.agents.structure_discovery.agent.segmentation import Region
from twinscope.agents.structure_discovery.prediction import Prediction
from twinscope.agents.structure_discovery.refinement import Refined
from twinscope.agents.structure_discovery.stack import ImageStack
from twinscope.agents.structure_discovery.structure import Structure

CONFIDENT = "confident"
"""The network is sure enough, and further data did not change the structure."""

SATURATED = "saturated"
"""No measurement is expected to tell much more."""

COMPLETE = "complete"
"""Everything that limits and interlocks allow was measured."""

OUT_OF_BUDGET = "out_of_budget"
"""Nothing more could be measured in the instrument time that was left."""

DONE = "done"
"""A run that ended as it should."""


@dataclass(frozen=True, slots=True)
class Action:
    """A measurement and what it brought.

    Attributes
    ----------
    tip
        What was at the end of the tip.
    layer
        Slice, from far to near.
    rows
        The first line and the one after the last.
    repeated
        How many of these lines were spoiled, and measured once more.
    time
        Instrument time at its end, in s.
    doubt
        Mean standard deviation over the molecule after it, in Å; NaN where the network does not tell.
    field_doubt
        Mean standard deviation of the electrostatic map over the molecule, in V/m; NaN where the network does not tell.
    expected
        What the doubt was expected to be; NaN where nothing was.
    """

    tip: str
    layer: int
    rows: tuple[int, int]
    repeated: int
    time: float
    doubt: float
    field_doubt: float
    expected: float


@dataclass(frozen=True, eq=False)
class MoleculeRecord:
    """One molecule.

    Attributes
    ----------
    region
        As the overview shows it.
    framed
        How it was approached; None when that failed.
    stack
        Everything that was measured with the first tip; None before the first line.
    prediction
        The last one; None before the first.
    refined
        The structure fitted to the stack; None when that was not asked for, or there was nothing to be fitted.
    others
        What was measured with other tips, over the same frame.
    actions
        Measurements in their order.
    ended
        :data:`CONFIDENT`, :data:`SATURATED`, :data:`COMPLETE`, :data:`OUT_OF_BUDGET`, or the code of an error.
    note
        For people: how it ended, and what was lost.
    begin, end
        Instrument time, in s.
    """

    region: Region
    framed: Framed | None
    stack: ImageStack | None
    prediction: Prediction | None
    refined: Refined | None
    actions: tuple[Action, ...]
    ended: str
    note: str
    begin: float
    end: float
    others: tuple[ImageStack, ...] = ()

    @property
    def structure(self) -> Structure | None:
        """The refined structure, if the simulation explains the stack with it, or else the predicted one."""
        if self.refined is not None and self.refined.believable:
            return self.refined.structure
        return None if self.prediction is None else self.prediction.structure

    @property
    def center(self) -> tuple[float, float]:
        """Middle of its frame on the sample, in m."""
        place = self.region if self.framed is None else self.framed.place
        return place.x * ANGSTROM, place.y * ANGSTROM

    @property
    def conditions(self) -> Mapping[str, tuple[float, float]]:
        """What was found out about the measurement itself: value and standard deviation by name."""
        if self.refined is not None:
            return self.refined.conditions
        return {} if self.prediction is None else self.prediction.conditions

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, without the images."""
        framed, structure = self.framed, self.structure
        data = {
            "center": list(self.center),
            "region": asdict(self.region),
            "lowest_slice": None if framed is None else framed.lowest * ANGSTROM,
            "turning": None if framed is None else framed.turning * ANGSTROM,
            "approach": None if framed is None else framed.note,
            "actions": [asdict(action) for action in self.actions],
            "ended": self.ended,
            "note": self.note,
            "begin": self.begin,
            "end": self.end,
            "network": None if self.prediction is None else self.prediction.network,
            "conditions": {name: list(value) for name, value in self.conditions.items()},
            "believable": None if self.refined is None else self.refined.believable,
            "reason": None if self.refined is None else self.refined.reason,
            "structure": None if structure is None else _plain(structure),
        }
        plain: dict[str, Any] = _finite(data)
        return plain


@dataclass(frozen=True, eq=False)
class DiscoveryRecord:
    """A run of an agent.

    Attributes
    ----------
    instrument
        Its name.
    options
        What was asked for.
    overview
        None when it failed.
    molecules
        In the order in which they were tried.
    ended
        :data:`DONE`, :data:`OUT_OF_BUDGET`, or the code of the error that ended the run.
    note
        For people: why.
    tip
        "withdrawn", or why it is not.
    begin, surveyed, end
        Instrument time at the beginning, after the overview, and at the end, in s.
    scanned
        m² that were imaged; what was imaged at several heights counts as often.
    """

    instrument: str
    options: DiscoveryOptions
    overview: Overview | None
    molecules: tuple[MoleculeRecord, ...]
    ended: str
    note: str
    tip: str
    begin: float
    surveyed: float
    end: float
    scanned: float

    @property
    def succeeded(self) -> bool:
        """Whether the run ended as it should."""
        return self.ended == DONE

    @property
    def instrument_time(self) -> float:
        """Seconds that the run took."""
        return self.end - self.begin

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, without the images."""
        overview = self.overview
        data = {
            "instrument": self.instrument,
            "options": asdict(self.options),
            "z_mode": None if overview is None else overview.z_mode,
            "regions": [] if overview is None else [asdict(region) for region in overview.regions],
            "molecules": [molecule.to_dict() for molecule in self.molecules],
            "ended": self.ended,
            "note": self.note,
            "tip": self.tip,
            "begin": self.begin,
            "surveyed": self.surveyed,
            "end": self.end,
            "instrument_time": self.instrument_time,
            "scanned": self.scanned,
        }
        plain: dict[str, Any] = _finite(data)
        return plain


def _finite(value: Any) -> Any:
    """Return plain data with None for every number that JSON does not have."""
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _plain(structure: Structure) -> dict[str, Any]:
    return {
        "symbols": list(structure.symbols),
        "positions": np.asarray(structure.positions).tolist(),
        "confidence": np.asarray(structure.confidence).tolist(),
        "sigma": np.asarray(structure.sigma).tolist(),
        "bonds": np.asarray(structure.bonds).tolist(),
        "bond_orders": np.asarray(structure.bond_orders).tolist(),
    }
