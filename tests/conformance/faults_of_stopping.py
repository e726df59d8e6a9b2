"""What can be wrong with a driver: how it stops, repeats itself, dies and grows."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from tests.conformance.faults_of_measuring import Writes
from tests.conformance.faulty import Faulty
from twinscope.errors import DriverError
from twinscope.state import Position, Reading

# What is to be stopped goes on for so long in these tests, in s, and longer than is allowed.
LONG = 0.8
SLOW = {"settle": 0.5, "patience": 2.0}


# ---------------------------------------------------------------------- stopping


_WHILE = (
    "stop_while_moving stop_while_approaching stop_while_withdrawing stop_while_scanning stop_on_a_path"
    " stop_in_a_spectroscopy"
)


class Deaf(Faulty):
    """Does something that cannot be stopped."""

    clock = "realtime"
    takes_time = True
    settings = SLOW

    def deafly(self, action: Callable[[], Any]) -> Any:
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            time.sleep(0.02)
        return action()


class CannotStopMoves(Deaf, stopping="stop_while_moving"):
    def move_to(self, x: float, y: float, z: float, speed: float | None = None) -> None:
        slow = speed is not None
        self.deafly(lambda: super(Deaf, self).move_to(x, y, z)) if slow else super().move_to(x, y, z)


class CannotStopApproaches(Deaf, stopping="stop_while_approaching"):
    def approach(self) -> None:
        high = self._tip[2] > 99e-9
        self.deafly(super().approach) if high else super().approach()


class CannotStopWithdrawals(Deaf, stopping="stop_while_withdrawing"):
    def withdraw(self) -> None:
        self.deafly(super().withdraw)


class CannotStopScans(Deaf, stopping="stop_while_scanning"):
    def poll(self) -> bool:
        acquisition = self._acquisition
        if acquisition is not None and acquisition[0].kind == "scan" and acquisition[0].pixels[1] == 12:
            return bool(self.deafly(super().poll)) if self._index == 0 else super().poll()
        return super().poll()


class CannotStopSpectra(Deaf, stopping="stop_in_a_spectroscopy"):
    def poll(self) -> bool:
        is_spectrum = self._acquisition is not None and self._acquisition[0].kind == "spectroscopy"
        return bool(self.deafly(super().poll)) if is_spectrum else super().poll()


class ForgetsStopsBetweenLines(Faulty, stopping="stop_between_lines", interruptions="a_stopped_scan_ends"):
    settings: ClassVar = SLOW | {"timeout": 2.0}

    def poll(self) -> bool:
        self._stopped.clear()
        return super().poll()


class RemembersOldStops(
    Faulty,
    interruptions="a_scan_after_a_stopped_one a_command_after_an_unfinished_scan a_stopped_scan_ends?"
    " reading_while_acquiring? the_rest_of_an_aborted_scan_is_nan? writing_while_acquiring?",
    stopping="stop_when_idle stop_between_lines? stop_from_many_threads? stop_while_moving?",
):
    def _begin(self) -> None:
        was_set = self._stopped.is_set()
        super()._begin()
        if was_set:
            self._stopped.set()


class StopsSlowly(Faulty, stopping="stop_when_idle stop_between_lines"):
    settings = SLOW
    takes_time = True

    def stop(self) -> None:
        time.sleep(0.45)
        super().stop()


class StopsInOneThreadOnly(Faulty, stopping=f"stop_from_many_threads {_WHILE}"):
    def stop(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("not from this thread")
        super().stop()


class DriftsOnAfterStops(Faulty, stopping="stop_while_moving"):
    clock = "realtime"
    takes_time = True

    def read(self) -> Reading:
        reading = super().read()
        if not self._stopped.is_set():
            return reading
        x, y, z = self._tip.tolist()
        return replace(reading, position=Position(x + 1e-9 * (time.monotonic() % 10), y, z))


# ---------------------------------------------------------------------- chance, its process, nights


class HasNoSeed(Writes, repeats="two_instances_give_the_same_bytes"):
    def hand_over(self, first: int, traces: np.ndarray) -> None:
        self._sink.write(first, traces * np.random.default_rng().normal(1, 1e-3))


class CannotBeKilled(Faulty, process="kill_and_reopen"):
    """It leaves a mark that it has the instrument, and nobody takes it away when it was killed."""

    def open(self) -> None:
        mark = self._options.file
        if mark is not None and not self._is_open:
            if mark.exists():
                raise DriverError(f"the instrument is in use: {mark}")
            mark.touch()
        super().open()

    def close(self) -> None:
        if self._options.file is not None and self._is_open:
            self._options.file.unlink()
        super().close()


class FillsTheMemory(Faulty, soak="soak"):
    settings: ClassVar = {"growth": 20e6}
    _kept: ClassVar[list[np.ndarray]] = []

    def poll(self) -> bool:
        self._kept.append(np.ones(100_000))
        return super().poll()


class PilesUpThreads(Faulty, soak="soak"):
    def move_to(self, x: float, y: float, z: float, speed: float | None = None) -> None:
        threading.Thread(target=time.sleep, args=(1.0,), daemon=True).start()
        super().move_to(x, y, z, speed)
