"""The Nanonis driver on a scripted controller: what it asks for, and what it makes of the answers."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.drivers._nanonis_controller import RefusalError, ScriptedController, quick
from twinscope.drivers.nanonis import Nanonis
from twinscope.errors import ConfigurationError, DriverError
from twinscope.nanonis_protocol import COMMANDS, ErrorDialect, encode_response
from twinscope.state import TipState

# ---------------------------------------------------------------------- what the controller tells about itself


def test_limits_come_from_the_controller(driver: Nanonis) -> None:
    limits = driver.capabilities().limits
    found = {name: (limit.low, limit.high, limit.unit) for name, limit in limits.items()}
    assert found["x"] == (-0.5e-6, 0.5e-6, "m")
    assert found["y"] == (-1e-6, 1e-6, "m")
    assert found["z"] == (0.0, 100e-9, "m")
    assert found["bias"] == found["pulse_voltage"] == (-10.0, 10.0, "V")
    assert found["setpoint_current"] == (1e-14, 1e-8, "A")
    assert found["setpoint_frequency_shift"] == (-500.0, 500.0, "Hz")


def test_channels_have_the_names_of_this_house(driver: Nanonis) -> None:
    channels = {channel.name: channel.unit for channel in driver.capabilities().channels}
    assert channels == {
        "current": "A",
        "bias": "V",
        "x_position": "m",
        "y_position": "m",
        "z": "m",
        "frequency_shift": "Hz",
        "input_7": "V",
    }


def test_channels_can_be_chosen_and_named(make: Callable[..., Nanonis]) -> None:
    driver = make(names={"Input 7": "photodiode"}, channels=["photodiode", "z"])
    assert [channel.name for channel in driver.capabilities().channels] == ["photodiode", "z"]


def test_capabilities_and_opening_set_nothing_but_which_setpoint_is_told(
    driver: Nanonis, controller: ScriptedController
) -> None:
    changed = {name for name, _ in controller.log if name.endswith(("Set", "Start", "Action"))}
    assert changed == {"ZCtrl.ActiveCtrlSet"}
    assert controller.values["active"] == 0


def test_opening_leaves_a_controller_alone_that_is_on(
    make: Callable[..., Nanonis], controller: ScriptedController
) -> None:
    controller.values["on"] = 1
    reading = make().read()
    assert not controller.count("ZCtrl.ActiveCtrlSet")
    assert reading.feedback == "constant_current"
    assert reading.signals["setpoint_current"] == 1e-11
    assert np.isnan(reading.signals["setpoint_frequency_shift"])


def test_an_unknown_z_controller_that_is_on_is_an_error(
    make: Callable[..., Nanonis], controller: ScriptedController
) -> None:
    driver = make()
    controller.values |= {"on": 1, "active": 9}
    with pytest.raises(DriverError, match="the z-controller number 9 is on"):
        driver.read()


def test_safe_tip_is_required_when_asked_for(make: Callable[..., Nanonis], controller: ScriptedController) -> None:
    driver = make(require_safe_tip=True)
    assert driver.capabilities().settings["safetip_safe_tip_status"] == 1
    driver.close()
    controller.values["safe_tip"] = 0
    with pytest.raises(DriverError, match="Safe Tip is not armed"):
        driver.open()
    with pytest.raises(DriverError, match="closed"):
        driver.read()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"ports": [6501]}, "ports"),
        ({"ports": [6501, 6501]}, "ports"),
        ({"ports": [6501, 70000]}, "ports"),
        ({"host": ""}, "host"),
        ({"timeout": 0.0}, "timeout"),
        ({"settling_part": 1.0}, "settling_part"),
        ({"pulse_duration": [1.0, 0.5]}, "pulse_duration"),
        ({"highest_speed": 1e-9}, "highest_speed"),
        ({"setpoint_limits": {"constant_luck": [0, 1]}}, "setpoint_limits"),
        ({"setpoint_limits": {"constant_current": [1e-8, 1e-12]}}, "setpoint_limits"),
        ({"setpoint_limits": {"constant_current": 3}}, "setpoint_limits"),
        ({"controllers": {"constant_current": ""}}, "controllers"),
        ({"names": {"Input 7": 7}}, "names"),
        ({"z_sweep_sign": 2}, "z_sweep_sign"),
        ({"error_dialect": "medium"}, "error_dialect"),
        ({"motor_group": -1}, "motor_group"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Nanonis(**options)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"channels": ["luck"]}, "the option channels has 'luck': the controller has current, "),
        ({"names": {"Luck (1)": "luck"}}, r"the option names has 'Luck \(1\)': the controller has Current \(A\), "),
        ({"controllers": {"constant_current": "Luck"}}, "the z-controllers are Current, Freq. Shift"),
    ],
)
def test_an_option_that_does_not_fit_the_controller_is_named(
    controller: ScriptedController, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        quick(controller, **options).capabilities()


# ---------------------------------------------------------------------- setting and moving


def test_signals_are_set_and_told_as_decimals(driver: Nanonis, controller: ScriptedController) -> None:
    driver.write("bias", 0.3)
    driver.write("setpoint_current", 2e-11)
    driver.write("setpoint_frequency_shift", -5.0)
    signals = driver.read().signals
    assert signals["bias"] == 0.3
    assert signals["setpoint_current"] == 2e-11
    assert signals["setpoint_frequency_shift"] == -5.0
    # The other controller gets its setpoint when it takes over.
    assert controller.values["setpoints"][1] == -2.0
    driver.set_feedback("constant_frequency_shift")
    assert controller.values["setpoints"][1] == -5.0
    assert driver.read().feedback == "constant_frequency_shift"
    driver.set_feedback("off")
    assert controller.last("ZCtrl.TipLiftSet")["tip_lift"] == 0


def test_a_signal_is_set_with_a_rate_in_steps(driver: Nanonis, controller: ScriptedController) -> None:
    driver.write("bias", 0.2, rate=1.0)
    values = [arguments["bias_value"] for name, arguments in controller.log if name == "Bias.Set"]
    assert len(values) == 5
    assert np.all(np.diff(values) > 0)
    assert values[-1] == np.float32(0.2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_sent(driver: Nanonis, controller: ScriptedController, value: float) -> None:
    for use in (lambda: driver.write("bias", value), lambda: driver.move_to(value, 0, 50e-9)):
        with pytest.raises(DriverError, match="only finite numbers are sent"):
            use()
    assert not controller.count("Bias.Set")
    assert not controller.count("FolMe.XYPosSet")


def test_the_tip_goes_up_before_and_down_after_a_move(driver: Nanonis, controller: ScriptedController) -> None:
    driver.move_to(1e-9, 2e-9, 60e-9)
    moves = [name for name, _ in controller.log if name in ("ZCtrl.ZPosSet", "FolMe.XYPosSet")]
    assert moves == ["ZCtrl.ZPosSet", "FolMe.XYPosSet"]
    controller.log.clear()
    driver.move_to(0.0, 2e-9, 10e-9, speed=5e-7)
    moves = [name for name, _ in controller.log if name in ("ZCtrl.ZPosSet", "FolMe.XYPosSet")]
    # 50 nm in steps of 20 ms at 0.5 nm/ms.
    assert moves == ["FolMe.XYPosSet", *["ZCtrl.ZPosSet"] * 5]
    assert controller.last("FolMe.SpeedSet") == {"speed": np.float32(5e-7), "custom_speed": 1}
    position = driver.read().position
    assert (position.x, position.y, position.z) == (0.0, 2e-9, 10e-9)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("FolMe_XYPosGet", {"x": np.nan, "y": 0.0}),
        ("FolMe_XYPosGet", {"x": 0.0, "y": 1e200}),
        ("ZCtrl_ZPosGet", {"z_position": np.inf}),
        ("Bias_Get", {"bias_value": np.nan}),
        ("Signals_ValsGet", {"signals_values": [1.0]}),
    ],
)
def test_what_is_no_number_is_not_told(
    driver: Nanonis, controller: ScriptedController, monkeypatch: pytest.MonkeyPatch, command: str, told: dict[str, Any]
) -> None:
    monkeypatch.setattr(controller, f"do_{command}", lambda **_: told)
    with pytest.raises(DriverError, match=r"expected a finite number|not far from it|gives 1 values of 2 signals"):
        driver.read()


@pytest.mark.parametrize(
    ("command", "told", "name"),
    [
        ("Piezo_RangeGet", {"range_x": 0.0, "range_y": 1e-6, "range_z": 1e-7}, "x"),
        ("ZCtrl_LimitsGet", {"z_high_limit": 0.0, "z_low_limit": 1e-7}, "z"),
        ("Signals_RangeGet", {"maximum_limit": np.inf, "minimum_limit": -1.0}, "bias"),
    ],
)
def test_limits_that_are_none_are_an_error(
    controller: ScriptedController, monkeypatch: pytest.MonkeyPatch, command: str, told: dict[str, Any], name: str
) -> None:
    monkeypatch.setattr(controller, f"do_{command}", lambda **_: told)
    with pytest.raises(DriverError, match=f"tells that {name} goes from .* that is no range"):
        quick(controller).capabilities()


def test_where_somebody_else_has_moved_the_tip_is_told(driver: Nanonis, controller: ScriptedController) -> None:
    driver.move_to(1e-9, 2e-9, 60e-9)
    controller.values |= {"x": 5e-9, "z_position": 61e-9}
    position = driver.read().position
    assert (position.x, position.y) == (5e-9, 2e-9)
    assert position.z == pytest.approx(61e-9)


@pytest.mark.parametrize("where", ["x", "z_position"])
def test_a_move_that_does_not_arrive_is_an_error(
    make: Callable[..., Nanonis], controller: ScriptedController, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = make(timeout=0.2)
    ignores = {"x": "do_FolMe_XYPosSet", "z_position": "do_ZCtrl_ZPosSet"}
    monkeypatch.setattr(controller, ignores[where], lambda **_: {})
    with pytest.raises(DriverError, match=r"was sent to|was asked for"):
        driver.move_to(1e-9, 0.0, 60e-9)


def test_z_is_the_controllers_when_it_is_on(driver: Nanonis, controller: ScriptedController) -> None:
    driver.set_feedback("constant_current")
    driver.move_to(1e-9, 0.0, 99e-9)
    assert not controller.count("ZCtrl.ZPosSet")


def test_approach_and_withdrawal(driver: Nanonis, controller: ScriptedController) -> None:
    driver.withdraw()
    assert driver.read().tip is TipState.WITHDRAWN
    driver.approach()
    reading = driver.read()
    assert (reading.tip, reading.feedback) == (TipState.IN_RANGE, "constant_current")
    driver.withdraw()
    reading = driver.read()
    assert (reading.tip, reading.feedback) == (TipState.WITHDRAWN, "off")


def test_an_approach_that_finds_nothing_is_an_error(
    make: Callable[..., Nanonis], controller: ScriptedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = make(approach_timeout=0.2)
    driver.withdraw()
    controller.approach_takes = 1_000_000
    with pytest.raises(DriverError, match=r"was not over after 0\.2 s"):
        driver.approach()
    assert controller.last("AutoApproach.OnOffSet") == {"on_off": 0}
    monkeypatch.setattr(controller, "do_AutoApproach_OnOffGet", lambda: {"status": 0})
    with pytest.raises(DriverError, match="nothing was found"):
        driver.approach()


def test_an_approach_is_stopped(driver: Nanonis, controller: ScriptedController) -> None:
    driver.withdraw()
    controller.approach_takes = 1_000_000
    stopper = threading.Timer(0.1, driver.stop)
    stopper.start()
    driver.approach()
    stopper.join()
    assert controller.values["approaching"] == 0


def test_a_withdrawal_that_does_not_take_the_tip_away_is_an_error(
    driver: Nanonis, controller: ScriptedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "do_ZCtrl_Withdraw", lambda **_: {})
    with pytest.raises(DriverError, match="the tip is not withdrawn: z is 5e-08 m"):
        driver.withdraw()


# ---------------------------------------------------------------------- features


@pytest.mark.parametrize(
    ("axis", "steps", "retracts", "direction"),
    [
        ("x", 3, "z+", 0),
        ("x", -3, "z+", 1),
        ("y", 1, "z-", 2),
        ("z", 2, "z+", 4),
        ("z", 2, "z-", 5),
        ("z", -2, "z-", 4),
    ],
)
def test_the_motor_steps(
    make: Callable[..., Nanonis],
    controller: ScriptedController,
    axis: str,
    steps: int,
    retracts: str,
    direction: int,
) -> None:
    make(motor_retracts=retracts, motor_group=2, motor_amplitude=200.0).coarse_move(axis, steps)
    assert controller.last("Motor.StartMove") == {
        "direction": direction,
        "number_of_steps": abs(steps),
        "group": 2,
        "wait_until_finished": 1,
    }
    assert controller.last("Motor.FreqAmpSet") == {"frequency": 0.0, "amplitude": 200.0, "axis": 0}


def test_no_steps_are_no_motion(driver: Nanonis, controller: ScriptedController) -> None:
    driver.coarse_move("z", 0)
    assert not controller.count("Motor.StartMove")


def test_a_pulse_is_absolute_with_the_z_controller_on_hold(driver: Nanonis, controller: ScriptedController) -> None:
    driver.pulse(-3.0, 0.05)
    assert controller.last("Bias.Pulse") == {
        "wait_until_done": 1,
        "bias_pulse_width": np.float32(0.05),
        "bias_value": -3.0,
        "z_controller_on_hold": 1,
        "pulse_absolute_relative": 2,
    }


def test_the_tip_is_shaped_and_the_bias_restored(
    driver: Nanonis, controller: ScriptedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        controller, "do_TipShaper_Start", lambda **_: controller.values.update(bias_value=2.0), raising=False
    )
    driver.shape_tip(1e-9, 2.0)
    given = controller.last("TipShaper.PropsSet")
    assert (given["tip_lift"], given["lift_height"]) == (np.float32(-1e-9), np.float32(1e-9))
    assert (given["bias"], given["bias_lift"], given["change_bias"]) == (2.0, 2.0, 1)
    assert controller.values["bias_value"] == np.float32(0.1)


def test_the_bias_is_restored_when_the_controller_gives_up_shaping(
    driver: Nanonis, controller: ScriptedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up(**_: object) -> None:
        controller.values.update(bias_value=2.0)
        raise RefusalError("the tip shaper has timed out")

    monkeypatch.setattr(controller, "do_TipShaper_Start", give_up, raising=False)
    with pytest.raises(DriverError, match=r"TipShaper\.Start: the tip shaper has timed out"):
        driver.shape_tip(1e-9, 2.0)
    assert controller.values["bias_value"] == np.float32(0.1)


# ---------------------------------------------------------------------- the form of errors


@pytest.mark.parametrize("option", ["auto", "long"])
def test_a_controller_with_long_errors(
    make: Callable[..., Nanonis], controller: ScriptedController, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    short = controller._answer

    def answer(name: str, arguments: Any) -> bytes:
        command = COMMANDS[name]
        if name == "Bias.Set":
            return encode_response(name, b"", "too high", dialect=ErrorDialect.LONG)
        body = short(name, arguments)[40:-8]
        assert body == command.encode_results(command.decode_results(body + bytes(8))[0])
        return encode_response(name, body, dialect=ErrorDialect.LONG)

    monkeypatch.setattr(controller, "_answer", answer)
    # It has no refusals but this one.
    monkeypatch.setattr(controller, "do_Signals_RangeGet", lambda **_: {"maximum_limit": 1.0, "minimum_limit": -1.0})
    driver = make(error_dialect=option)
    with pytest.raises(DriverError, match=r"refuses Bias\.Set: too high"):
        driver.write("bias", 9.0)
    assert driver.read().signals["bias"] == 0.1


def test_two_threads_do_not_mix_up_their_answers(driver: Nanonis) -> None:
    failed: list[BaseException] = []

    def look() -> None:
        try:
            for _ in range(30):
                driver.read()
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_time_goes_on(driver: Nanonis) -> None:
    first = driver.read().time
    time.sleep(0.01)
    assert driver.read().time > first
