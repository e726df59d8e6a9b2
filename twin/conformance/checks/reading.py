"""What a driver tells when it is read."""

import math

from twinscope.conformance.bench import Bench, Direct
from twinscope.state import FEEDBACK_OFF, Position, TipState

CONTRACT = "twinscope.drivers.base.Driver.read, twinscope.state.Reading, and docs/drivers.md, 'Looking'"


def test_a_reading_is_whole(bench: Bench) -> None:
    """A reading has the time, the position, the state of the tip and each signal, and no others."""
    reading = bench.read()
    assert math.isfinite(reading.time), f"the time is {reading.time}: expected seconds"
    assert isinstance(reading.position, Position), f"the position is {reading.position!r}: expected a Position"
    assert isinstance(reading.tip, TipState), f"the tip is {reading.tip!r}: expected a TipState"
    names = [signal.name for signal in bench.capabilities.signals]
    assert set(reading.signals) == set(names), f"signals are {sorted(reading.signals)}: expected {sorted(names)}"
    modes = (FEEDBACK_OFF, *bench.capabilities.feedback_modes)
    assert reading.feedback in modes, f"feedback is {reading.feedback!r}: expected one of {', '.join(modes)}"


def test_values_are_within_their_limits(bench: Bench) -> None:
    """The position and each signal that can be set are numbers within their limits, in their unit."""
    reading = bench.read()
    position = {name: getattr(reading.position, name) for name in ("x", "y", "z")}
    for name in ("x", "y", "z", *bench.capabilities.settable):
        value = (position | dict(reading.signals))[name]
        limits = bench.capabilities.limits[name]
        assert isinstance(value, float), f"{name} is {value!r}: expected a float"
        assert limits.low <= value <= limits.high, (
            f"{name} is {value} {limits.unit}, outside of its limits of {limits.low} to {limits.high}: is it in SI?"
        )


def test_looking_changes_nothing(direct: Direct) -> None:
    """Reading a driver moves nothing and sets nothing, and time goes on forwards."""
    first = direct.read()
    for _ in range(3):
        again = direct.read()
        assert again.position == first.position, "the tip moved between two readings"
        for name in direct.capabilities.settable:
            assert again.signals[name] == first.signals[name], f"{name} changed between two readings"
        assert again.time >= first.time, f"the time went back from {first.time} to {again.time} s"
