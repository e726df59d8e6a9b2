"""Drivers that do to their process whatever a driver can do; each measures three traces before."""

import ctypes
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tests.conftest import RampDriver
from twinscope import _driver_line, driver_host
from twinscope.capabilities import Capabilities, Limits
from twinscope.state import Position

GOOD_TRACES = 3


class FailingDriver(RampDriver):
    """Calls :meth:`fail` instead of measuring the fourth trace."""

    name: ClassVar[str] = "failing"

    def poll(self) -> bool:
        if self.index == GOOD_TRACES:
            self.fail()
        return super().poll()

    def fail(self) -> None:
        """Do it."""


class Exits(FailingDriver):
    def fail(self) -> None:
        os._exit(3)


class ExitsPolitely(FailingDriver):
    def fail(self) -> None:
        raise SystemExit(5)


class Crashes(FailingDriver):
    def fail(self) -> None:
        ctypes.string_at(0)


class RunsOutOfMemory(FailingDriver):
    def __init__(self) -> None:
        import resource

        super().__init__()
        resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))

    def fail(self) -> None:
        bytearray(2**34)


class Raises(FailingDriver):
    def fail(self) -> None:
        raise ZeroDivisionError("the piezo of nothing")


class FindsLessEachTime(Raises):
    """Its instrument has a shorter range whenever it is made anew; the file counts."""

    def __init__(self, file: str) -> None:
        super().__init__()
        times = Path(file)
        times.write_text(str(int(times.read_text()) + 1 if times.exists() else 1))
        self._range = 1e-6 / int(times.read_text())

    def capabilities(self) -> Capabilities:
        usual = super().capabilities()
        return replace(usual, limits={**usual.limits, "x": Limits(-self._range, self._range, "m")})


class LosesItsInstrument(FailingDriver):
    """What it raises looks like a lost connection to the server."""

    def fail(self) -> None:
        raise ConnectionResetError("the controller has hung up")


class WritesAWrongShape(FailingDriver):
    def fail(self) -> None:
        self.sink.write(self.index, np.zeros((1, 1, 3)))


class WritesNumbersWithoutAShape(FailingDriver):
    def fail(self) -> None:
        self.sink.write(self.index, np.zeros(()))


class WritesFarTooMuch(FailingDriver):
    def fail(self) -> None:
        one = np.stack([self.trace(0)[name] for name in self.request.channels])
        self.sink.write(self.index, np.repeat(one[None], 2**19, axis=0))


class WritesWhatWasWritten(FailingDriver):
    def fail(self) -> None:
        self.sink.write(0, np.stack([self.trace(0)[name] for name in self.request.channels])[None])


class EndsEarly(FailingDriver):
    def fail(self) -> None:
        self.stopped.set()


class Sleeps(FailingDriver):
    """Ignores stop."""

    def fail(self) -> None:
        time.sleep(3600)


class HoldsTheInterpreter(FailingDriver):
    """No other thread of its process runs any more."""

    def fail(self) -> None:
        ctypes.PyDLL(None).sleep(3600)


class StopsSlowly(RampDriver):
    """Takes longer for a stop than a driver may."""

    def stop(self) -> None:
        time.sleep(0.5)
        super().stop()


class CannotStop(RampDriver):
    def stop(self) -> None:
        super().stop()
        raise RuntimeError("the red button is stuck")


class CannotBeMade(RampDriver):
    def __init__(self) -> None:
        raise KeyError("serial number")


class CannotBeOpened(RampDriver):
    def open(self) -> None:
        raise OSError("no such device: /dev/stm0")


class OpensForEver(RampDriver):
    def open(self) -> None:
        time.sleep(3600)


class WithdrawsForEver(RampDriver):
    def withdraw(self) -> None:
        time.sleep(3600)


class TellsItsProcess(RampDriver):
    """Writes the number of its process into a file, as soon as it is open."""

    def __init__(self, file: str, rate: float | str = "realtime") -> None:
        super().__init__(rate)
        self._file = Path(file)

    def open(self) -> None:
        self._file.write_text(str(os.getpid()))


class WaitsBriefly(RampDriver):
    """Its process is impatient, so that a test need not wait."""

    def __init__(self) -> None:
        super().__init__()
        driver_host._LOCK_TIMEOUT = 0.2


class Prints(RampDriver):
    """Fills the standard output, from Python and from C."""

    def poll(self) -> bool:
        print("line", self.index, "x" * 100)  # noqa: T201
        os.write(1, b"and from below\n")
        return super().poll()


class Noise(RampDriver):
    """All bit patterns of a float: NaNs with a payload, infinities, denormal numbers."""

    def trace(self, index: int) -> dict[str, np.ndarray]:
        bits = np.random.default_rng(index).integers(0, 2**32, (3, self.request.trace_length), np.uint32)
        return dict(zip(("at_x", "at_y", "at_z"), bits.view(np.float32), strict=True))


class Marks(RampDriver):
    """Writes what is done to it into a file, from processes that nobody can ask any more."""

    def __init__(self, file: str, rate: float | str = "realtime", moving: float = 0.1) -> None:
        super().__init__(rate)
        self._file = Path(file)
        self._moving = moving

    def _mark(self, text: str) -> None:
        with self._file.open("a") as file:
            file.write(f"{os.getpid()} {text}\n")

    def open(self) -> None:
        self._mark("open")

    def close(self) -> None:
        self._mark("close")

    def move_to(self, x: float, y: float, z: float, speed: float | None = None) -> None:
        self._mark("move")
        self.stopped.clear()
        if self.clock.spend(0.1 if z == 1e-6 else self._moving, self.stopped) == 1:
            self.position = Position(x, y, z)
        self._mark(f"moved to {self.position.z:.0e}")

    def poll(self) -> bool:
        self._mark("poll")
        return super().poll()


class MarksAndHangs(Marks):
    """Ignores stop; its process is impatient, so that a test need not wait."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _driver_line._STOP_TIMEOUT = 0.5

    def poll(self) -> bool:
        self._mark("poll")
        time.sleep(3600)
        return True
