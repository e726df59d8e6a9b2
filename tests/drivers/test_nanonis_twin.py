"""Twin behind twin: the Nanonis driver in front of our own gateway, which stands for another instrument."""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import twinscope
from tests.conftest import RampDriver, until
from tests.drivers._nanonis_controller import acquire
from twinscope.drivers.nanonis import Nanonis
from twinscope.errors import ConfigurationError, DriverError
from twinscope.gateway import NanonisGateway
from twinscope.instrument import Instrument
from twinscope.interlocks import Interlocks
from twinscope.local import LocalTransport
from twinscope.requests import ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.service import Service
from twinscope.state import TipState

EXAMPLE = Path(__file__).resolve().parent.parent / "plugins" / "example"
sys.path.append(str(EXAMPLE))

from twinscope_example import Dunes  # noqa: E402

RULES = {"allow": ("pulse", "tip_shaping")}
OPTIONS: dict[str, Any] = {
    "vertical_speed": 1e-6,
    "lateral_speed": 1e-6,
    "setpoint_limits": {"constant_current": [1e-12, 1e-8]},
}
RAMP = {"channels": ["at_x", "at_y", "at_z"], "motor": True}
SCAN = ScanRequest(
    frame=ScanFrame(size=(10e-9, 7e-9), center=(3e-9, -2e-9), angle=25.0),
    pixels=(5, 4),
    channels=("at_x", "at_y", "at_z"),
    direction="both",
    line_time=0.01,
    heights=(60e-9, 50e-9),
)


@dataclass
class Twins:
    """An instrument, its own client, and a driver that reaches it through the gateway."""

    instrument: Any
    scope: twinscope.Microscope
    driver: Nanonis


@pytest.fixture
def twins(instrument: Callable[..., Instrument]) -> Iterator[Callable[..., Twins]]:
    ended: list[Any] = []

    def start(behind: Any = None, **options: Any) -> Twins:
        behind = behind or RampDriver()
        inner = instrument(behind, **RULES)
        scope = twinscope.Microscope(transport=LocalTransport(inner))
        assert scope.wait_ready(5)
        gateway = NanonisGateway(Service(inner), (0, 0, 0), interlocks=Interlocks.from_dict(RULES))
        gateway.start()
        driver = Nanonis(**OPTIONS | {"ports": gateway.ports} | (options or RAMP))
        ended.extend((driver, gateway))
        driver.capabilities()
        driver.open()
        return Twins(behind, scope, driver)

    yield start
    for one in ended:
        one.close()


def own_lines(scope: twinscope.Microscope) -> list[np.ndarray]:
    """Return the traces of the last acquisition as our own client gets them, both directions, in the order of time."""
    acquisition = scope.current_acquisition()
    assert acquisition is not None
    return [np.array(list(line.values.values())) for line in acquisition.lines()]


# ---------------------------------------------------------------------- commands


def test_what_the_instrument_can_do_comes_through(twins) -> None:
    t = twins()
    found, behind = t.driver.capabilities(), t.instrument.capabilities()
    for name in ("x", "y", "z", "bias"):
        assert found.limits[name] == behind.limits[name]
    assert [channel.name for channel in found.channels] == ["at_x", "at_y", "at_z"]
    assert found.scan_modes == behind.scan_modes
    # Its channels are known only while they are recorded, so a path could not be followed.
    assert found.acquisitions == ("scan", "spectroscopy")


def test_a_setpoint_without_limits_asks_for_them(twins) -> None:
    with pytest.raises(ConfigurationError, match="give the option setpoint_limits for constant_current"):
        twins(channels=["at_x"], setpoint_limits={})


def test_commands_arrive(twins) -> None:
    t = twins()
    t.driver.move_to(1e-9, 2e-9, 5e-8)
    assert t.instrument.position == t.driver.read().position
    t.driver.write("bias", 0.3)
    t.driver.write("setpoint_current", 2e-11)
    assert (t.instrument.signals["bias"], t.instrument.signals["setpoint_current"]) == (0.3, 2e-11)
    t.driver.set_feedback("constant_current")
    assert t.instrument.feedback == "constant_current"
    t.driver.set_feedback("off")
    t.driver.pulse(1.5, 0.05)
    t.driver.shape_tip(1e-9, 2.0)
    t.driver.withdraw()
    t.driver.coarse_move("z", 3)
    t.driver.coarse_move("x", -2)
    calls = t.instrument.calls
    assert ("pulse", 1.5, 0.05) in calls
    assert ("shape_tip", 1e-9, 2.0) in calls
    assert calls[-2:] == [("coarse_move", "z", 3), ("coarse_move", "x", -2)]
    assert t.driver.read().tip is TipState.WITHDRAWN
    assert t.driver.read().signals["bias"] == 0.3
    t.driver.approach()
    assert t.driver.read().feedback == "constant_current"


def test_the_motor_is_refused_where_there_is_none(twins) -> None:
    t = twins(Dunes(), motor=True, pulse=False, channels=["current"])
    t.driver.withdraw()
    with pytest.raises(DriverError, match=r"refuses Motor\.StartMove: this instrument has no coarse_motion"):
        t.driver.coarse_move("z", 1)
    assert t.driver.read().tip is TipState.WITHDRAWN


def test_the_interlocks_of_the_instrument_hold(twins) -> None:
    t = twins()
    for use, complaint in (
        (lambda: t.driver.move_to(2e-6, 0, 5e-8), "outside its range"),
        (lambda: t.driver.write("bias", 11.0), "outside its range"),
        (lambda: acquire(t.driver, replace(SCAN, frame=ScanFrame(size=(5e-6, 1e-6)))), "outside its range"),
    ):
        with pytest.raises(DriverError, match=complaint):
            use()
    assert t.instrument.signals["bias"] == 0.1
    t.driver.read()


# ---------------------------------------------------------------------- data, bit for bit


@pytest.mark.parametrize("slow_direction", ["up", "down"])
def test_a_scan_is_bit_for_bit_that_of_the_instrument(twins, slow_direction: str) -> None:
    t = twins()
    request = replace(SCAN, slow_direction=slow_direction)
    traces = acquire(t.driver, request)
    images = traces.reshape(2, -1, *traces.shape[1:])
    # The instrument has taken the second image last.
    np.testing.assert_array_equal(images[1], np.array(own_lines(t.scope), np.float32))
    t.instrument.request = request
    for number in range(request.trace_count):
        wanted = t.instrument.trace(number)
        np.testing.assert_array_equal(traces[number], np.array(list(wanted.values()), np.float32))


@pytest.mark.parametrize("swept", ["z", "bias"])
def test_spectra_are_bit_for_bit_those_of_the_instrument(twins, swept: str) -> None:
    t = twins(Dunes(), channels=["current"], tip_shaping=False, pulse=False)
    sweep = Sweep(start=3e-9, stop=2.4e-9, points=7) if swept == "z" else Sweep(start=-0.5, stop=0.5, points=7)
    request = SpectroscopyRequest(
        swept=swept,
        positions=((1e-9, 0.0), (4e-9, 2e-9)),
        sweep=sweep,
        channels=("current",),
        height=None if swept == "z" else 2.5e-9,
    )
    traces = acquire(t.driver, request)
    # The instrument has done one spectroscopy for each position.
    np.testing.assert_array_equal(traces[-1:], np.array(own_lines(t.scope), np.float32))
    t.driver.close()
    until(lambda: t.scope.state().lease is None)
    with t.scope.control():
        own = t.scope.acquire(request).result(10)["current"].values
    np.testing.assert_array_equal(traces[:, 0], own)
    assert np.ptp(own) > 0


def test_a_scan_with_the_z_controller(twins) -> None:
    t = twins(Dunes(), channels=["current", "height_of_the_tip"], tip_shaping=False, pulse=False)
    t.driver.approach()
    request = replace(
        SCAN,
        channels=("height_of_the_tip", "current"),
        heights=None,
        z_mode="constant_current",
        setpoint=3e-11,
        direction="forward",
    )
    traces = acquire(t.driver, request)
    np.testing.assert_array_equal(traces, np.array(own_lines(t.scope), np.float32)[::2, ::1])
    np.testing.assert_allclose(traces[:, 1], 3e-11, rtol=1e-3)
    assert t.driver.read().signals["setpoint_current"] == 3e-11


# ---------------------------------------------------------------------- the digital twin itself, in another process


@dataclass
class Served:
    """A ``twinscope serve --nanonis`` that runs."""

    uri: str
    ports: list[int]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("twin")
    command = [sys.executable, "-m", "twinscope", "serve", "--sample", "benzene", "--port", "0", "--data", folder]
    process = subprocess.Popen(
        [*command, "--nanonis", "--nanonis-ports", "0,0,0"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    said = ""
    while "\nat PYRO" not in said:
        line = process.stdout.readline()
        assert line, f"the server did not start: {said}"
        said += line
    ports = [int(port) for port in re.search(r"Nanonis .* ports ([\d ]+)", said)[1].split()]
    yield Served(re.search(r"at (PYRO:\S+);", said)[1], ports)
    process.kill()
    process.communicate()


def test_a_session_with_the_simulator(served: Served) -> None:
    scan = ScanRequest(
        frame=ScanFrame(size=(1e-9, 8e-10), center=(1e-10, 0.0), angle=-20.0),
        pixels=(6, 4),
        channels=("current", "frequency_shift"),
        direction="both",
        line_time=0.5,
        heights=(4e-10,),
    )
    sweep = SpectroscopyRequest(
        swept="z",
        positions=((1e-10, 0.0),),
        sweep=Sweep(start=6e-10, stop=4e-10, points=6),
        channels=("frequency_shift",),
    )
    limits = {"constant_current": [1e-14, 1e-7], "constant_frequency_shift": [-1000.0, 1000.0]}
    driver = Nanonis(ports=served.ports, setpoint_limits=limits, channels=["frequency_shift", "current", "z"])
    with twinscope.connect(served.uri) as scope:
        assert scope.wait_ready(120)
        assert set(driver.capabilities().feedback_modes) == {"constant_frequency_shift", "constant_current"}
        driver.open()
        driver.withdraw()
        assert scope.state().tip is TipState.WITHDRAWN
        driver.approach()
        driver.set_feedback("off")
        driver.write("bias", 0.05)
        driver.move_to(1e-10, 0.0, 5e-10)
        assert scope.state().position == driver.read().position
        image, spectrum = acquire(driver, scan), acquire(driver, sweep)
        signals = driver.read().signals
        assert signals["bias"] == scope.state().signals["bias"] == 0.05
        assert signals["frequency_shift"] == pytest.approx(scope.state().signals["frequency_shift"], rel=1e-6)
        driver.close()
        until(lambda: scope.state().lease is None)
        with scope.control():
            own_image = np.array([list(line.values.values()) for line in scope.acquire(scan).lines()], np.float32)
            own_spectrum = scope.acquire(sweep).result(60)["frequency_shift"].values
    np.testing.assert_array_equal(image, own_image)
    np.testing.assert_array_equal(spectrum[:, 0], own_spectrum)
    assert np.ptp(image[:, 1]) > 0.1


# ---------------------------------------------------------------------- the conformance suite


class Living(Dunes):
    """Dunes of which the time goes on between two commands: the driver in front of them has its own clock."""

    def _begin(self) -> None:
        super()._begin()
        self._clock.catch_up()


ALL_CHANNELS = ("current", "sensor_x", "sensor_y", "sensor_z")
# Most of the time is spent waiting for lines of some seconds, so the parts of the suite run side by side.
WAITING = "interruptions.py or stopping.py or process.py"
PARTS = {
    "waiting": (ALL_CHANNELS, WAITING),
    "the rest": (ALL_CHANNELS, f"not ({WAITING} or soak)"),
    # What can be read at any moment can be followed along a path.
    "paths": (("current",), "path or pass or separate or same_points or soak"),
}


def begin_suite(folder: Path, ports: Sequence[int], channels: Sequence[str], checks: str) -> "subprocess.Popen[str]":
    """Begin to run a part of the conformance suite on the driver."""
    folder.mkdir()
    config = folder / "nanonis.toml"
    config.write_text(
        f"""
        ports = {json.dumps(ports)}
        channels = {json.dumps(channels)}
        vertical_speed = 1e-6
        lateral_speed = 1e-6
        pulse = false
        tip_shaping = false
        [names]
        "Position along x" = "sensor_x"
        "Position along y" = "sensor_y"
        "Height of the tip" = "sensor_z"
        [setpoint_limits]
        constant_current = [1e-12, 1e-8]
        [conformance]
        height = 2.4e-9
        patience = 5.0
        """
        + ('ramp = {x = "sensor_x", y = "sensor_y"}' if "sensor_x" in channels else "")
    )
    suite = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--twinscope-soak=1", "-k", checks]
    return subprocess.Popen(
        [*suite, "--twinscope-driver=nanonis", f"--driver-config={config}"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_the_conformance_suite_passes(instrument: Callable[..., Instrument], tmp_path: Path) -> None:
    running = {}
    with contextlib.ExitStack() as ended:
        for name, (channels, checks) in PARTS.items():
            behind = instrument(Living(clock="realtime", spacing=10e-9), folder=tmp_path / f"data of {name}")
            gateway = NanonisGateway(Service(behind), (0, 0, 0))
            gateway.start()
            ended.callback(gateway.close)
            running[name] = begin_suite(tmp_path / name, gateway.ports, channels, checks)
            ended.callback(running[name].kill)
        said = {name: process.communicate()[0] for name, process in running.items()}
    for name, process in running.items():
        assert process.returncode == 0, f"{name}: {said[name][-4000:]}"
        passed = re.search(r"(\d+) passed", said[name])
        assert passed is not None
        assert int(passed[1]) > 10
