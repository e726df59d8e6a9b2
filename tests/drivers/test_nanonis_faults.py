"""The Nanonis driver when the controller or the network fails: no long wait, no wrong data, and the tip comes away."""

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple

import numpy as np
import pytest

from tests.drivers._acquiring import Sink
from tests.drivers._nanonis_controller import (
    LOSING,
    REFUSING,
    Fault,
    ScriptedController,
    acquire,
    cut,
    quick,
    refusal,
    silence,
)
from twinscope.drivers.nanonis import Nanonis
from twinscope.errors import DriverError
from twinscope.nanonis_protocol import HEADER_SIZE
from twinscope.requests import PathRequest, ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.state import Reading, TipState

TIMEOUT = 0.25
# A wait ends with its timeout, but not to the millisecond on a busy machine.
MOST = 10 * TIMEOUT
FRAME = ScanFrame(size=(10e-9, 8e-9))
SCAN = ScanRequest(frame=FRAME, pixels=(16, 3), channels=("current", "z"), line_time=0.01, heights=(50e-9,))
BIAS_SWEEP = SpectroscopyRequest(
    swept="bias", positions=((1e-9, 0),), sweep=Sweep(start=-1, stop=1, points=5), channels=("current",)
)
Z_SWEEP = SpectroscopyRequest(
    swept="z", positions=((0, 1e-9),), sweep=Sweep(start=50e-9, stop=40e-9, points=5), channels=("current",)
)
PATH = PathRequest(positions=((0, 0), (1e-9, 0)), channels=("current",), point_time=1e-3)


def make(controller: ScriptedController, **options: object) -> Nanonis:
    waits = ("timeout", "withdraw_timeout", "approach_timeout", "motor_timeout", "tip_shaping_timeout")
    return quick(controller, **dict.fromkeys(waits, TIMEOUT) | options)


@pytest.fixture
def controller() -> Iterator[ScriptedController]:
    made = ScriptedController(3)
    yield made
    made.close()


@pytest.fixture
def driver(controller: ScriptedController) -> Iterator[Nanonis]:
    made = make(controller)
    made.capabilities()
    made.open()
    yield made
    made.close()


ACTIONS: dict[str, tuple[Callable[[Nanonis], object], tuple[str, ...]]] = {
    "read": (Nanonis.read, ("FolMe.XYPosGet", "Bias.Get", "ZCtrl.CtrlListGet", "Signals.ValsGet")),
    "write": (lambda d: d.write("bias", 0.2), ("Bias.Set",)),
    "write a setpoint": (lambda d: d.write("setpoint_current", 2e-11), ("ZCtrl.SetpntSet",)),
    "feedback": (lambda d: d.set_feedback("constant_current"), ("ZCtrl.OnOffSet", "ZCtrl.OnOffGet")),
    "move": (lambda d: d.move_to(1e-9, 0, 60e-9), ("ZCtrl.ZPosSet", "FolMe.SpeedSet", "FolMe.XYPosSet")),
    "approach": (Nanonis.approach, ("AutoApproach.Open", "AutoApproach.OnOffSet", "AutoApproach.OnOffGet")),
    "scan": (
        lambda d: acquire(d, SCAN),
        ("Scan.FrameSet", "Scan.BufferGet", "Scan.SpeedSet", "Scan.PropsSet", "Scan.Action", "Scan.StatusGet"),
    ),
    "grab": (lambda d: acquire(d, SCAN), ("Scan.FrameDataGrab",)),
    "bias sweep": (lambda d: acquire(d, BIAS_SWEEP), ("BiasSpectr.TimingSet", "BiasSpectr.Start")),
    "z sweep": (lambda d: acquire(d, Z_SWEEP), ("ZSpectr.RangeSet", "ZSpectr.Start")),
    "path": (lambda d: acquire(d, PATH), ("Signals.ValsGet", "FolMe.XYPosSet")),
    "pulse": (lambda d: d.pulse(1.0, 0.01), ("Bias.Pulse",)),
    "shape": (lambda d: d.shape_tip(1e-9, 1.0), ("TipShaper.PropsSet", "TipShaper.Start")),
    "motor": (lambda d: d.coarse_move("x", 3), ("Motor.StartMove",)),
}
PHASES = [(action, command) for action, (_, commands) in ACTIONS.items() for command in commands]
WRITING = ("Set", "Start", "StartMove", "Action", "Pulse")


@pytest.mark.parametrize(("action", "command"), PHASES)
def test_a_lost_connection_is_an_error_and_the_tip_can_be_withdrawn(
    driver: Nanonis, controller: ScriptedController, action: str, command: str
) -> None:
    # Each phase meets another fault, and each fault several phases; all pairs would take minutes.
    fault = LOSING[PHASES.index((action, command)) % len(LOSING)]
    check_lost(driver, controller, action, command, fault)


@pytest.mark.parametrize("fault", LOSING)
@pytest.mark.parametrize(
    ("action", "command"), [("read", "Bias.Get"), ("write", "Bias.Set"), ("grab", "Scan.FrameDataGrab")]
)
def test_every_way_to_lose_a_connection(
    driver: Nanonis, controller: ScriptedController, action: str, command: str, fault: Fault
) -> None:
    check_lost(driver, controller, action, command, fault)


def check_lost(driver: Nanonis, controller: ScriptedController, action: str, command: str, fault: Fault) -> None:
    controller.faults[command] = fault
    begun, known = time.monotonic(), controller.count(command)
    with pytest.raises(DriverError, match="is lost"):
        ACTIONS[action][0](driver)
    assert time.monotonic() - begun < MOST
    # What changes something was not sent again.
    if command.endswith(WRITING) and action != "path":
        assert (
            controller.count(command) - known <= 2
            if command == "Scan.Action"
            else controller.count(command) == known + 1
        )
    assert not controller.values["on"] or action in ("feedback", "approach")
    # Nothing is known any more, so nothing goes on.
    for use in (driver.read, lambda: driver.move_to(0, 0, 50e-9), lambda: acquire(driver, SCAN)):
        with pytest.raises(DriverError, match="lost"):
            use()
    driver.withdraw()
    assert controller.values["z_position"] == pytest.approx(100e-9)
    assert driver.read().tip is TipState.WITHDRAWN


@pytest.mark.parametrize("fault", REFUSING)
@pytest.mark.parametrize(("action", "command"), [phase for phase in PHASES if phase[0] != "grab"])
def test_a_refusal_is_an_error_and_the_connection_stays(
    driver: Nanonis, controller: ScriptedController, action: str, command: str, fault: Fault
) -> None:
    controller.faults[command] = fault
    reason = "the moon is full" if fault is refusal else "it does not say why"
    with pytest.raises(DriverError, match=f"refuses {command}: {reason}"):
        ACTIONS[action][0](driver)
    driver.read()
    driver.withdraw()


@pytest.mark.parametrize("fault", LOSING)
def test_a_driver_that_has_lost_the_controller_is_opened_again(
    driver: Nanonis, controller: ScriptedController, fault: Fault
) -> None:
    controller.faults["Bias.Set"] = fault
    with pytest.raises(DriverError):
        driver.write("bias", 0.3)
    driver.close()
    # Somebody else has done something meanwhile: what is told is what is.
    controller.values |= {"bias_value": 0.5, "x": 3e-9}
    driver.open()
    reading = driver.read()
    assert reading.signals["bias"] == 0.5
    assert reading.position.x == 3e-9


def test_opening_a_lost_driver_without_closing_it_connects_anew(
    driver: Nanonis, controller: ScriptedController
) -> None:
    controller.faults["Bias.Set"] = cut
    with pytest.raises(DriverError):
        driver.write("bias", 0.3)
    driver.open()
    driver.write("bias", 0.3)


@pytest.mark.parametrize("fault", LOSING)
def test_a_withdrawal_survives_the_loss_of_its_connection(
    driver: Nanonis, controller: ScriptedController, fault: Fault
) -> None:
    controller.faults["ZCtrl.Withdraw"] = fault
    driver.withdraw()
    assert controller.values["z_position"] == pytest.approx(100e-9)


@pytest.mark.parametrize("fault", LOSING)
def test_a_withdrawal_out_of_a_scan_survives_the_loss_of_the_connection(
    driver: Nanonis, controller: ScriptedController, fault: Fault
) -> None:
    driver.start_scan(SCAN, Sink())
    controller.faults |= {"Scan.StatusGet": fault, "Scan.Action": fault}
    driver.withdraw()
    assert controller.values["z_position"] == pytest.approx(100e-9)
    driver.read()


def test_a_controller_that_is_gone_is_an_error_each_time(driver: Nanonis, controller: ScriptedController) -> None:
    controller.close()
    begun = time.monotonic()
    for use in (driver.read, driver.withdraw, driver.open):
        with pytest.raises(DriverError):
            use()
    driver.stop()
    driver.close()
    assert time.monotonic() - begun < 2 * MOST


def test_nobody_listens() -> None:
    gone = ScriptedController()
    driver = make(gone)
    gone.close()
    for use in (driver.capabilities, driver.open):
        with pytest.raises(DriverError, match="no free port of a Nanonis controller was found"):
            use()


@pytest.mark.parametrize("fault", [*LOSING, refusal])
@pytest.mark.parametrize("command", ["Signals.NamesGet", "Piezo.RangeGet", "ZCtrl.CtrlListGet"])
def test_what_fails_while_the_driver_looks_is_an_error(
    controller: ScriptedController, command: str, fault: Fault
) -> None:
    driver = make(controller)
    controller.faults[command] = fault
    with pytest.raises(DriverError):
        driver.capabilities()
    # The next attempt is a new one.
    assert driver.capabilities().limits["x"].high == 0.5e-6
    driver.open()
    driver.close()


def damaged(random: np.random.Generator) -> Fault:
    """Return a fault that changes some bytes of the body of an answer."""

    def send(connected: socket.socket, name: str, answer: bytes) -> None:
        changed = np.frombuffer(answer, np.uint8).copy()
        places = random.integers(HEADER_SIZE, len(changed), random.integers(1, 6))
        changed[places] = random.choice([0, 1, 127, 128, 255], len(places))
        connected.sendall(changed.tobytes())

    return send


@pytest.mark.parametrize("action", ["read", "move", "scan", "z sweep", "path", "shape", "approach", "feedback"])
def test_a_damaged_answer_is_an_error_or_has_done_no_harm(
    driver: Nanonis, controller: ScriptedController, action: str
) -> None:
    """Whatever an answer says, nothing else than DriverError comes out of the driver."""
    random = np.random.default_rng(PHASES.index((action, ACTIONS[action][1][0])))
    ACTIONS[action][0](driver)
    asked = sorted({name for name, _ in controller.log} - {"Util.VersionGet"})
    for _ in range(25):
        controller.faults[str(random.choice(asked))] = damaged(random)
        with contextlib.suppress(DriverError):
            done = ACTIONS[action][0](driver)
            assert not isinstance(done, Reading) or all(map(math.isfinite, astuple(done.position)))
        controller.faults.clear()
        driver.close()
        driver.open()
        driver.withdraw()


# ---------------------------------------------------------------------- stopping


def test_a_stop_ends_a_wait_for_an_answer_that_does_not_come(driver: Nanonis, controller: ScriptedController) -> None:
    """The move is said to take minutes, and its answer does not come although it was stopped."""
    controller.faults["FolMe.XYPosSet"] = silence
    failed: list[DriverError] = []

    def move() -> None:
        try:
            driver.move_to(4e-7, 0, 50e-9, speed=1e-9)
        except DriverError as exc:
            failed.append(exc)

    mover = threading.Thread(target=move)
    mover.start()
    while not controller.count("FolMe.XYPosSet"):
        time.sleep(0.005)
    driver.stop()
    assert controller.count("FolMe.Stop") == 1
    mover.join(MOST)
    assert not mover.is_alive()
    assert "is lost" in str(failed[0])


@pytest.mark.parametrize("fault", LOSING)
def test_a_stop_that_is_not_answered_does_not_hang(
    driver: Nanonis, controller: ScriptedController, fault: Fault
) -> None:
    controller.faults["Scan.Action"] = fault
    sink = Sink()
    # The first of these is the start.
    controller.faults.clear()
    driver.start_scan(SCAN, sink)
    controller.faults["Scan.Action"] = fault
    begun = time.monotonic()
    driver.stop()
    assert time.monotonic() - begun < MOST
    assert driver.poll() is False
    assert controller.stopped
    # The next stop has a connection again.
    driver.start_scan(SCAN, sink)
    driver.stop()
    assert driver.poll() is False


def test_a_stop_ends_what_somebody_else_has_begun(driver: Nanonis, controller: ScriptedController) -> None:
    controller.values |= {"lines": 50, "pixels": 16}
    controller.do_Scan_Action(0, 1)
    driver.stop()
    assert controller.stopped
    assert controller.count("FolMe.Stop") == 1
    # And does not stop what is begun after it.
    driver.move_to(2e-9, 0, 50e-9)
    assert driver.read().position.x == 2e-9


def test_a_stop_of_a_closed_driver_says_nothing(driver: Nanonis, controller: ScriptedController) -> None:
    driver.close()
    known = len(controller.log)
    driver.stop()
    assert len(controller.log) == known


def test_slow_answers_are_waited_for(driver: Nanonis, controller: ScriptedController) -> None:
    controller.delay = TIMEOUT / 10
    assert acquire(driver, SCAN).shape == (3, 2, 16)
