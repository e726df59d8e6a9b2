"""What can be wrong with a driver: what it says about itself, its life and its commands."""

import threading
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from tests.conformance.faulty import Faulty
from twinscope.capabilities import Capabilities, Channel, Limits
from twinscope.errors import DriverError
from twinscope.state import FEEDBACK_OFF, Position, Reading, TipState

# ---------------------------------------------------------------------- what it says about itself


class CapabilitiesChange(Faulty, description="capabilities_stay_the_same"):
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), settings={"open": self._is_open})


class PromisesTooMuch(
    Faulty,
    description="capabilities_are_provided features_have_what_they_need",
    commands="coarse_motion",
    refusals="features_out_of_range",
):
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), features=("coarse_motion",))


class CannotBeWritten(Faulty, description="capabilities_are_plain_data"):
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), settings={"sample": ...})


class InfiniteLimits(Faulty, description="limits", refusals="moves_out_of_range"):
    def capabilities(self) -> Capabilities:
        base = super().capabilities()
        endless = dict.fromkeys(("x", "y"), Limits(-np.inf, np.inf, "m"))
        return replace(base, limits={**base.limits, **endless})

    settings: ClassVar = {"center": [2e-9, 1e-9], "size": [1e-8, 7e-9]}


class PrefixedUnits(Faulty, description="channels_and_signals"):
    def capabilities(self) -> Capabilities:
        base = super().capabilities()
        return replace(base, channels=(*base.channels, Channel("topography", "nm", "Height")))


class InventsWords(
    Faulty, description="words_are_known capabilities_are_provided setpoints_can_be_set_and_sweeps_have_limits"
):
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), sweeps=("z", "temperature"))


# ---------------------------------------------------------------------- options


class TakesAnyOption(Faulty, options="unknown_options_are_refused"):
    def __init__(self, **options: Any) -> None:
        known = [option.name for option in self.options_type.describe()]
        super().__init__(**{name: value for name, value in options.items() if name in known})


class TakesAnyValue(Faulty, options="values_of_the_wrong_type_are_refused numbers_that_are_not_finite_are_refused"):
    def __init__(self, **options: Any) -> None:
        height = options.get("height", 0.0)
        fits = isinstance(height, float) and np.isfinite(height)
        super().__init__(**options | ({} if fits else {"height": 1e-9}))


class DoesNotNameTheOption(Faulty, options="values_of_the_wrong_type_are_refused"):
    def __init__(self, **options: Any) -> None:
        if not isinstance(options.get("file", ""), str):
            raise ValueError("something is wrong")
        super().__init__(**options)


# ---------------------------------------------------------------------- its life


class OpensOnce(Faulty, life="open_twice"):
    def open(self) -> None:
        if self._is_open:
            raise DriverError("it is open")
        super().open()


class ClosesOnce(Faulty, life="close_twice close_without_open"):
    def close(self) -> None:
        if not self._is_open:
            raise DriverError("it is not open")
        super().close()


class LivesOn(Faulty, life="use_after_close"):
    def _check_open(self) -> None: ...


class LivesOnce(Faulty, life="close_in_an_acquisition open_again"):
    _lives = 0

    def open(self) -> None:
        self._lives += not self._is_open
        if self._lives > 1:
            raise DriverError("it was closed")
        super().open()


class KeepsTheInstrument(
    Faulty,
    life="open_twice close_twice close_without_open close_in_an_acquisition use_after_close open_again"
    " a_new_driver_after_a_closed_one stop_at_any_time no_thread_is_left",
):
    """Nobody else ever gets it: all checks but the first fail."""

    user: ClassVar["Faulty | None"] = None

    def open(self) -> None:
        if KeepsTheInstrument.user not in (None, self):
            raise DriverError("another driver has the instrument")
        KeepsTheInstrument.user = self
        super().open()


class StopsOnlyWhenOpen(Faulty, life="stop_at_any_time"):
    def stop(self) -> None:
        self._check_open()
        super().stop()


class LeavesAThread(Faulty, life="no_thread_is_left"):
    def open(self) -> None:
        # Longer than the test waits for it.
        threading.Timer(3.0, lambda: None).start()
        super().open()


# ---------------------------------------------------------------------- looking


class ReadsNanometres(Faulty, reading="values_are_within_their_limits"):
    def read(self) -> Reading:
        reading = super().read()
        return replace(reading, position=Position(*(1e9 * self._tip).tolist()))


class ForgetsASignal(Faulty, reading="a_reading_is_whole"):
    def read(self) -> Reading:
        reading = super().read()
        return replace(reading, signals={"bias": 0.0, "setpoint_current": 1e-11})


class MovesWhenRead(
    Faulty,
    reading="looking_changes_nothing",
    refusals="moves_out_of_range signals_out_of_range acquisitions_out_of_range unknown_channels"
    " signals_that_cannot_be_set undeclared_modes undeclared_features",
):
    def read(self) -> Reading:
        self._tip = self._tip + 1e-13
        return super().read()

    settings: ClassVar = {"center": [1e-10, 1e-10]}


# ---------------------------------------------------------------------- commands


class IgnoresSignals(Faulty, commands="signals_can_be_set signals_can_be_set_with_a_rate"):
    def write(self, name: str, value: float, rate: float | None = None) -> None:
        self._begin()


class WritesAtOnce(Faulty, commands="signals_can_be_set_with_a_rate"):
    def write(self, name: str, value: float, rate: float | None = None) -> None:
        super().write(name, value)


class RoundsPositions(Faulty, commands="moves_arrive moves_along_z_arrive? moves_with_the_z_controller_on"):
    def read(self) -> Reading:
        reading = super().read()
        return replace(reading, position=Position(*self._tip.astype(np.float32).tolist()))


class StaysInRange(Faulty, commands="a_withdrawn_tip"):
    def withdraw(self) -> None:
        self._begin()


class IgnoresTheApproach(Faulty, commands="an_approached_tip"):
    def approach(self) -> None:
        self._begin()
        if self._tip[2] < 90e-9:
            super().approach()

    def read(self) -> Reading:
        reading = super().read()
        # It was never found withdrawn before.
        return reading if self._withdrawn else replace(reading, tip=TipState.IN_RANGE)

    _withdrawn = False

    def withdraw(self) -> None:
        self._withdrawn = True
        super().withdraw()


class JumpsWhenSwitchedOff(Faulty, commands="the_z_controller_can_be_switched"):
    def set_feedback(self, mode: str) -> None:
        super().set_feedback(mode)
        if mode == FEEDBACK_OFF:
            self._tip = self._tip + np.array([0, 0, 5e-9])
