"""The agent's hands: the few things that it does with a microscope, in Å here and in SI units there."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from twinscope.acquisition import Acquisition
from twinscope.agents.structure_discovery.stack import ImageStack
from twinscope.errors import AbortedError, AcquisitionError, InterlockError, OutOfRangeError, TwinscopeError
from twinscope.microscope import Microscope
from twinscope.requests import CONSTANT_HEIGHT, ScanFrame, ScanRequest
from twinscope.results import Scan
from twinscope.state import FEEDBACK_OFF, TipState

log = logging.getLogger(__name__)

ANGSTROM = 1e-10
FREQUENCY_SHIFT = "frequency_shift"
# If this client falls silent, the tip does not stay where it is.
_WHEN_LOST = "abort_and_withdraw"


@dataclass(frozen=True, slots=True)
class Place:
    """A rectangle on the sample and the pixels in it.

    Attributes
    ----------
    x, y
        Of the middle, in Å.
    width, height
        Å.
    pixels
        Along x and y.
    """

    x: float
    y: float
    width: float
    height: float
    pixels: tuple[int, int]

    @property
    def frame(self) -> ScanFrame:
        """The same for the microscope."""
        return ScanFrame(
            size=(self.width * ANGSTROM, self.height * ANGSTROM), center=(self.x * ANGSTROM, self.y * ANGSTROM)
        )


class Operator:
    """Operates a microscope that its caller controls.

    Parameters
    ----------
    scope
        The microscope, whose control is held.

    Attributes
    ----------
    scanned
        Å² that were imaged up to now; what was imaged at several heights counts as often.
    """

    def __init__(self, scope: Microscope) -> None:
        self.scope = scope
        self.capabilities = scope.capabilities()
        self.scanned = 0.0

    @property
    def time(self) -> float:
        """Instrument time, in s."""
        return self.scope.state().time

    @property
    def height(self) -> float:
        """Of the tip, in Å."""
        position = self.scope.state().position
        if position is None:
            raise AcquisitionError("the instrument does not know where its tip is: look at it, then begin again")
        return position.z / ANGSTROM

    def signal(self, name: str) -> float | None:
        """Present value of a signal; None where the instrument has none."""
        return self.scope.state().signals.get(name)

    def approach_at(self, x: float, y: float) -> None:
        """Go somewhere else with the tip withdrawn, and approach there; Å."""
        self.scope.withdraw()
        self.scope.move_to(x=x * ANGSTROM, y=y * ANGSTROM)
        self.scope.approach()

    def travel(self, x: float, y: float, height: float) -> None:
        """Rise to a height at which nothing is in the way, and go somewhere else there; Å."""
        if self.scope.state().tip is TipState.WITHDRAWN:
            self.approach_at(x, y)
            return
        self.scope.move_to(z=height * ANGSTROM)
        self.scope.move_to(x=x * ANGSTROM, y=y * ANGSTROM)

    def check_exchange(self, probe: str) -> None:
        """Make sure that something can be put at the end of the tip.

        Raises
        ------
        TwinscopeError
            When the instrument cannot do that, does not know it, or is not allowed to.
        """
        self.scope.check("exchange_tip", probe=probe)

    def exchange(self, probe: str) -> None:
        """Put something else at the end of the tip, which is withdrawn then."""
        self.scope.exchange_tip(probe)

    def withdraw(self) -> str | None:
        """Take the tip away if that is possible; return why it is not."""
        try:
            # Who stopped it may have done so already.
            if self.scope.state().tip is not TipState.WITHDRAWN:
                self.scope.withdraw()
        except TwinscopeError as exc:
            log.warning("the tip could not be withdrawn: %s", exc)
            return exc.message
        return None

    def allowed(self, place: Place, height: float) -> bool:
        """Whether limits and interlocks allow an image at a height, in Å.

        Raises
        ------
        AbortedError
            When the instrument lets nobody measure until somebody has looked at it.
        """
        try:
            self.scope.check("acquire", request=_at_height(place, height, 1.0))
        except (OutOfRangeError, InterlockError) as exc:
            if self.scope.state().blocked is not None:
                raise AbortedError(f"the instrument was stopped: {exc.message}") from exc
            log.info("no image at %.2f Å: %s", height, exc)
            return False
        return True

    def image(self, place: Place, height: float, line_time: float) -> ImageStack:
        """Take an image at a constant height, in Å."""
        scan = self._finished(self.begin(place, height, line_time))
        self.scanned += place.width * place.height
        return ImageStack.from_scan(scan)

    def begin(self, place: Place, height: float, line_time: float) -> Acquisition:
        """Begin an image at a constant height, in Å."""
        return self.scope.acquire(_at_height(place, height, line_time), on_lease_loss=_WHEN_LOST)

    def rows(self, acquisition: Acquisition, place: Place) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the lines of such an image as they arrive: number from the bottom, and frequency shift in Hz."""
        for line in acquisition.lines():
            assert line.address is not None
            self.scanned += place.width * place.height / place.pixels[1]
            yield line.address.row, np.asarray(line.values[FREQUENCY_SHIFT], dtype=float)
        self._check_tip()

    def topograph(self, place: Place, z_mode: str, setpoint: float | None, line_time: float) -> np.ndarray:
        """Height of the tip, in Å, with the z-controller on: shape (ny, nx). It is off in the end."""
        acquisition = self.scope.scan(
            frame=place.frame,
            pixels=place.pixels,
            channels=["z"],
            line_time=line_time,
            z_mode=z_mode,
            setpoint=setpoint,
            on_lease_loss=_WHEN_LOST,
        )
        heights = self._finished(acquisition)["z"].values
        self.scanned += place.width * place.height
        if self.scope.state().feedback != FEEDBACK_OFF:
            self.scope.set_feedback(FEEDBACK_OFF)
        return np.asarray(heights, dtype=float) / ANGSTROM

    def _finished(self, acquisition: Acquisition) -> Scan:
        scan = acquisition.result()
        assert isinstance(scan, Scan)
        self._check_tip()
        return scan

    def _check_tip(self) -> None:
        if self.scope.state().tip is TipState.CRASHED:
            raise AcquisitionError("the tip has touched the sample and is another one now: shape it, then begin again")


def _at_height(place: Place, height: float, line_time: float) -> ScanRequest:
    return ScanRequest(
        frame=place.frame,
        pixels=place.pixels,
        channels=(FREQUENCY_SHIFT,),
        heights=(height * ANGSTROM,),
        line_time=line_time,
        z_mode=CONSTANT_HEIGHT,
    )
