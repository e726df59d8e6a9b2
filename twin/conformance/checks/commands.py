"""Commands do what they are asked for."""

import math

import msgpack
import pytest

from twinscope.conformance.bench import Bench, Direct, approach
from twinscope.conformance.settings import Subject
from twinscope.state import FEEDBACK_OFF, Reading, TipState

CONTRACT = "twinscope.drivers.base.Driver, write to approach, and docs/drivers.md, 'Commands'"


def need(bench: Bench, subject: Subject, feature: str) -> None:
    """Skip unless the instrument has a feature that may be tried."""
    capabilities, allowed = bench.capabilities, subject.settings.allow
    if feature not in capabilities.features:
        pytest.skip(f"this instrument has no {feature}")
    if not (capabilities.simulated if allowed is None else feature in allowed):
        pytest.skip(f"{feature} may change the tip: say allow = ['{feature}'] in [conformance] to try it")


# ---------------------------------------------------------------------- signals


def test_signals_can_be_set(bench: Bench, subject: Subject) -> None:
    """Each signal with limits can be set, reads back, and changes no other that can be set."""
    for name in bench.capabilities.settable:
        found, wanted = bench.read(), bench.work.another(name)
        reading = bench.perform("write", name=name, value=wanted)
        _check_signal(reading, name, wanted, found.signals[name], subject)
        for other in bench.capabilities.settable:
            if other != name:
                assert reading.signals[other] == found.signals[other], f"setting {name} has changed {other}"
        assert reading.position == found.position, f"setting {name} has moved the tip"
        bench.perform("write", name=name, value=found.signals[name])


def test_signals_can_be_set_with_a_rate(bench: Bench, subject: Subject) -> None:
    """A signal that is set with a rate is there when write() returns, and not before its time."""
    for name in bench.capabilities.settable[:1]:
        found, wanted = bench.read(), bench.work.another(name)
        step = abs(wanted - found.signals[name])
        reading = bench.perform("write", name=name, value=wanted, rate=step / 0.2)
        _check_signal(reading, name, wanted, found.signals[name], subject)
        took = reading.time - found.time
        assert took > 0.9 * 0.2, f"{name} was there after {took:.3g} s: at its rate it takes 0.2 s"


def _check_signal(reading: Reading, name: str, wanted: float, before: float, subject: Subject) -> None:
    off = abs(reading.signals[name] - wanted)
    allowed = subject.settings.tolerance * abs(wanted - before)
    assert off <= allowed, f"{name} was set to {wanted}, it reads {reading.signals[name]}"


# ---------------------------------------------------------------------- moving


def test_moves_arrive(bench: Bench) -> None:
    """After a move the tip is where it was sent, to the last bit: whoever sent it there compares."""
    for along, across in ((0.5, 0.5), (-0.5, 0.25), (0.0, -0.5)):
        x, y = bench.work.offset(along, across)
        position = bench.perform("move_to", x=x, y=y).position
        assert (position.x, position.y) == (x, y), (
            f"the tip was sent to {(x, y)}, read() tells {(position.x, position.y)}: tell where it was sent, not what a"
            " sensor measures"
        )
        assert position.z == bench.work.height, "z has changed in a move along x and y"


def test_moves_along_z_arrive(bench: Bench) -> None:
    """With the z-controller off, z is where it was sent, to the last bit."""
    z = bench.capabilities.limits["z"]
    for height in (bench.work.height + 0.1 * (z.high - bench.work.height), bench.work.height):
        position = bench.perform("move_to", z=height).position
        assert position.z == height, f"z was to be {height}, read() tells {position.z}"
        assert (position.x, position.y) == bench.work.center, "x or y has changed in a move along z"


def test_a_withdrawn_tip(bench: Bench) -> None:
    """After withdraw() the tip is withdrawn, above where it was, and the z-controller is off."""
    before = bench.read()
    reading = bench.perform("withdraw")
    assert reading.tip is TipState.WITHDRAWN, f"the tip is {reading.tip} after withdraw()"
    assert reading.feedback == FEEDBACK_OFF, f"the z-controller is on ({reading.feedback}) after withdraw()"
    assert reading.position.z >= before.position.z, f"z went down from {before.position.z} to {reading.position.z}"


def test_an_approached_tip(bench: Bench) -> None:
    """After approach() the tip is in range, at a height within its limits."""
    bench.perform("withdraw")
    reading = bench.perform("approach")
    assert reading.tip is TipState.IN_RANGE, f"the tip is {reading.tip} after approach()"
    bench.capabilities.check_position(z=reading.position.z)


# ---------------------------------------------------------------------- z-controller


def test_the_z_controller_can_be_switched(bench: Bench, subject: Subject) -> None:
    """Each feedback mode can be switched on and off; off leaves z as it is."""
    for mode in bench.capabilities.feedback_modes:
        approach(bench)
        reading = bench.perform("set_feedback", mode=mode)
        assert reading.feedback == mode, f"feedback is {reading.feedback!r} after set_feedback({mode!r})"
        off = bench.perform("set_feedback", mode=FEEDBACK_OFF)
        assert off.feedback == FEEDBACK_OFF, f"feedback is {off.feedback!r} after set_feedback('off')"
        jump = off.position.z - reading.position.z
        assert abs(jump) <= subject.settings.z_tolerance, f"z jumped by {jump} m when {mode} was switched off"


def test_moves_with_the_z_controller_on(bench: Bench) -> None:
    """With the z-controller on, moves along x and y arrive and leave it on."""
    x, y = bench.work.offset(0.25, 0.25)
    for mode in bench.capabilities.feedback_modes:
        approach(bench)
        bench.perform("set_feedback", mode=mode)
        reading = bench.perform("move_to", x=x, y=y)
        assert (reading.position.x, reading.position.y) == (x, y)
        assert reading.feedback == mode, f"a move has switched the z-controller from {mode} to {reading.feedback}"
        bench.perform("set_feedback", mode=FEEDBACK_OFF)


# ---------------------------------------------------------------------- features


def test_coarse_motion(bench: Bench, subject: Subject) -> None:
    """The coarse motor steps along each axis when the tip is withdrawn."""
    need(bench, subject, "coarse_motion")
    bench.perform("withdraw")
    for axis, steps in (("z", 1), ("x", 1), ("y", 1), ("x", -1), ("y", -1), ("z", -1)):
        bench.perform("coarse_move", axis=axis, steps=steps)


def test_pulse(bench: Bench, subject: Subject) -> None:
    """A pulse takes its time, and leaves the signals as they were."""
    need(bench, subject, "pulse")
    before = bench.read()
    duration = bench.capabilities.limits_of("pulse_duration").low
    after = bench.perform("pulse", voltage=_small(bench, "pulse_voltage"), duration=duration)
    for name in bench.capabilities.settable:
        assert after.signals[name] == before.signals[name], f"{name} is another one after a pulse"
    assert after.time - before.time >= 0.9 * duration, f"a pulse of {duration} s took {after.time - before.time} s"


def test_tip_shaping(bench: Bench, subject: Subject) -> None:
    """Shaping brings the tip back to where it was."""
    need(bench, subject, "tip_shaping")
    before = approach(bench)
    depth = bench.capabilities.limits_of("tip_shaping_depth").low
    after = bench.perform("shape_tip", depth=max(depth, 1e-12), voltage=_small(bench, "tip_shaping_voltage"))
    assert after.position == before.position, "the tip is elsewhere after it was shaped"


def test_tip_exchange(bench: Bench, subject: Subject) -> None:
    """Each probe can be put at the end of the tip, which is withdrawn then, and is told by the state."""
    need(bench, subject, "tip_exchange")
    before = approach(bench)
    others = [probe for probe in bench.capabilities.probes if probe != before.probe]
    for probe in (*others, *bench.capabilities.probes[:1]):
        after = bench.perform("exchange_tip", probe=probe)
        assert after.probe == probe
        assert after.tip is TipState.WITHDRAWN, "the tip is not withdrawn after it was exchanged"
        assert after.time > before.time, "an exchange of the tip takes no time"


def test_oracle(direct: Direct) -> None:
    """The oracle tells the truth about a part of the sample as plain data."""
    if "oracle" not in direct.capabilities.features:
        pytest.skip("this instrument has no oracle")
    low, high = direct.work.offset(-0.5, -0.5), direct.work.offset(0.5, 0.5)
    truth = direct.driver.truth(low, high)  # type: ignore[attr-defined]
    assert isinstance(msgpack.unpackb(msgpack.packb(truth)), dict)


def _small(bench: Bench, name: str) -> float:
    """Return a harmless voltage within limits."""
    limits = bench.capabilities.limits_of(name)
    return min(max(0.1, limits.low), limits.high) if math.isfinite(limits.low) else 0.1
