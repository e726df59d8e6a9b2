"""What all Nanonis clients share: the instrument, seen as a Nanonis controller."""

import math
import time
from collections.abc import Callable

from twinscope.capabilities import Capabilities, Limits
from twinscope.errors import InvalidRequestError
from twinscope.gateway.operator import Operator
from twinscope.gateway.recorder import MoveRecorder
from twinscope.gateway.scanner import Scanner
from twinscope.gateway.settings import Settings
from twinscope.gateway.signal_list import SignalList
from twinscope.gateway.tasks import Tasks
from twinscope.interlocks import Interlocks
from twinscope.state import FEEDBACK_OFF

# A wait is cut into pieces of this, in s, so that it ends when the client is gone.
_SLICE = 0.1
# After so many seconds it is looked again what the instrument can do.
_OLD = 1.0
# What a controller has that was not told another.
_DEFAULT_MODE = "constant_current"


class Controller:
    """The state of the controller that the gateway stands for.

    Parameters
    ----------
    operator
        Who calls the verbs of the instrument.
    interlocks
        The rules of the instrument, to be told to who asks; it is the instrument that holds to them.

    Attributes
    ----------
    settings
        What clients have set.
    tasks
        What they have begun.
    scanner
        The scan control.
    recorder
        What was seen on the way of moves.
    """

    def __init__(self, operator: Operator, interlocks: Interlocks) -> None:
        self.operator = operator
        self.interlocks = interlocks
        self._looked = -math.inf
        self._look_again()
        self.settings = Settings(self._capabilities)
        self.tasks = Tasks(operator)
        self.scanner = Scanner(operator, self.settings, self.tasks)
        self.recorder = MoveRecorder(operator)
        self._mode: str | None = None
        self._started = False

    @property
    def capabilities(self) -> Capabilities:
        """What the instrument can do; a driver that was made anew may have other limits."""
        self._look_again()
        return self._capabilities

    @property
    def signals(self) -> SignalList:
        """The list of 128 signals."""
        self._look_again()
        return self._signals

    def wait_for_start(self, meanwhile: Callable[[], None]) -> None:
        """Wait until the driver is open, or has failed: before that nothing is known of the instrument."""
        while not self._started:
            self._started = self.operator.look("wait_ready", timeout=_SLICE)
            meanwhile()

    # ------------------------------------------------------------------ what the instrument is

    def signal(self, name: str) -> float:
        """Return the present value of a signal of the instrument.

        Raises
        ------
        InvalidRequestError
            When it has no such signal.
        """
        signals = self.operator.state().signals
        if name not in signals:
            raise InvalidRequestError(
                f"this instrument has no signal {name!r}: it has {', '.join(signals) or 'none yet, it is starting'}",
                name=name,
            )
        return signals[name]

    def limits(self, name: str) -> Limits:
        """Return the range of what can be set.

        Raises
        ------
        InvalidRequestError
            When it cannot be set.
        """
        if name not in self.capabilities.limits:
            raise InvalidRequestError(f"{name} cannot be set on this instrument, so it has no range", name=name)
        return self.capabilities.limits[name]

    def setup(self, name: str) -> float:
        """Return a number of how the instrument was set up.

        Raises
        ------
        InvalidRequestError
            When its driver does not tell it.
        """
        value = self.capabilities.settings.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidRequestError(f"the driver of this instrument does not tell its {name}", name=name)
        return float(value)

    # ------------------------------------------------------------------ the z-controller

    def active_mode(self) -> str:
        """Return what the z-controller holds constant, or will when it is switched on.

        Raises
        ------
        InvalidRequestError
            When the instrument has no z-controller.
        """
        modes = self.capabilities.feedback_modes
        feedback = self.operator.state().feedback
        if feedback != FEEDBACK_OFF:
            return feedback
        if not modes:
            raise InvalidRequestError("this instrument has no z-controller: move the tip with ZCtrl.ZPosSet")
        default = _DEFAULT_MODE if _DEFAULT_MODE in modes else modes[0]
        return self._mode or default

    def choose_mode(self, mode: str) -> None:
        """Say what the z-controller will hold constant."""
        self._mode = mode

    # ------------------------------------------------------------------ what it does

    def abort(self, *verbs: str) -> None:
        """Abort the job in progress if it is one of these verbs; without one there is nothing to abort."""
        job = self.operator.job_in_progress()
        if job is not None and job["verb"] in verbs:
            self.operator.command("abort", id=job["id"])

    # ------------------------------------------------------------------ inside

    def _look_again(self) -> None:
        """Ask what the instrument can do, unless that was asked just now."""
        now = time.monotonic()
        if now - self._looked > _OLD:
            self._capabilities = Capabilities.from_dict(self.operator.look("capabilities"))
            self._signals = SignalList(self._capabilities)
            self._looked = now
