"""Slices of one molecule, measured line by line."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from twinscope.agents.structure_discovery.agent.operator import Operator
from twinscope.agents.structure_discovery.agent.options import DiscoveryOptions
from twinscope.agents.structure_discovery.agent.recorder import Recorder
from twinscope.agents.structure_discovery.agent.spoiled import runs, spoiled_lines

log = logging.getLogger(__name__)

# A line takes its time and the way back.
_WAYS = 2.0

OnLines = Callable[[int, int], None]
"""Called with how many lines of those asked for are there, and how many were asked for."""


@dataclass(frozen=True, slots=True)
class Band:
    """Lines of a slice.

    Attributes
    ----------
    layer
        Slice, from far to near.
    rows
        The first line and the one after the last.
    """

    layer: int
    rows: tuple[int, int]


class Slicing:
    """Measures lines of slices into a recorder, and remembers how near the tip may come.

    Parameters
    ----------
    operator
        Of the microscope.
    options
        What is asked for.
    recorder
        Of the molecule.
    deadline
        Instrument time at which the budget ends, in s.

    Attributes
    ----------
    forbidden
        This slice and lower ones are not measured: the tip was too near there.
    """

    def __init__(self, operator: Operator, options: DiscoveryOptions, recorder: Recorder, deadline: float) -> None:
        self.forbidden = recorder.grid.slices
        self._operator, self._options, self._recorder, self._deadline = operator, options, recorder, deadline

    @property
    def unhindered(self) -> bool:
        """Whether no slice has come too near."""
        return self.forbidden == self._recorder.grid.slices

    def allowed(self, layer: int) -> bool:
        """Whether a slice may be measured, as far as tip, limits and interlocks are concerned."""
        recorder = self._recorder
        whole = recorder.place((0, recorder.grid.pixels))
        return layer < self.forbidden and self._operator.allowed(whole, float(recorder.heights[layer]))

    def seconds(self, lines: int) -> float:
        """Instrument time of some lines."""
        return _WAYS * self._options.line_time * lines

    def measure(self, band: Band, on_lines: OnLines | None = None) -> int:
        """Measure lines, and those that are spoiled once more; return how many were.

        Where the tip is too near, the slice ends, and lower ones are forbidden.
        """
        first = band.rows[0]
        if not self._take(band, on_lines):
            return 0
        repeated = 0
        for begin, stop in runs(spoiled_lines(self._recorder.lines(band.layer, band.rows))):
            if self._operator.time + self.seconds(stop - begin) > self._deadline:
                break
            again = Band(band.layer, (first + begin, first + stop))
            log.info("slice %d: lines %d to %d are measured once more", band.layer, again.rows[0], again.rows[1] - 1)
            repeated += stop - begin
            if not self._take(again):
                break
        return repeated

    def _take(self, band: Band, on_lines: OnLines | None = None) -> bool:
        """Measure lines; False where the tip came too near."""
        (first, end), layer = band.rows, band.layer
        place = self._recorder.place(band.rows)
        acquisition = self._operator.begin(place, self._recorder.heights[layer], self._options.line_time)
        for count, (row, line) in enumerate(self._operator.rows(acquisition, place), start=1):
            self._recorder.put(layer, first + row, line)
            if line.max() > self._options.highest_frequency_shift:
                acquisition.abort()
                self.forbidden = layer
                log.warning("slice %d ends: the frequency shift is %.1f Hz", layer, line.max())
                return False
            if on_lines is not None:
                on_lines(count, end - first)
        return True
