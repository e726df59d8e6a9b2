import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import twinscope
from tests.drivers._acquiring import acquire
from twinscope import ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.drivers.base import Driver
from twinscope.drivers.common.units import ANGSTROM, EV_PER_ANGSTROM
from twinscope.drivers.simulator import Simulator
from twinscope.drivers.simulator.sample import load_sample
from twinscope.errors import ConfigurationError
from twinscope.kernels import Cantilever, ScanGrid, Tip, frequency_shift, simulate
from twinscope.state import TipState

# Its time is that of compiling.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

FRAME = ScanFrame(size=(1.2e-9, 1e-9))


def image(driver: Simulator, **change: Any) -> np.ndarray:
    """Traces of a small image, (traces, samples)."""
    wanted = {"frame": FRAME, "pixels": (12, 10), "channels": ("frequency_shift",), "heights": (3.6e-10,)}
    return acquire(driver, ScanRequest(**(wanted | change)))[0].reshape(-1, (wanted | change)["pixels"][0])


@pytest.fixture(scope="module")
def benzene() -> Simulator:
    return Simulator(sample="benzene")


def test_it_is_a_driver(benzene: Simulator) -> None:
    assert isinstance(benzene, Driver)
    assert "frequency_shift" in [channel.name for channel in benzene.capabilities().channels]


def test_the_image_is_the_one_of_the_kernels(benzene: Simulator) -> None:
    """Same atoms, tip and heights, put into SI by hand; here the kernel has an even grid of heights of its own."""
    measured = image(benzene, channels=("frequency_shift",))
    request = ScanRequest(frame=FRAME, pixels=(12, 10), channels=("z",))
    along, across = request.offsets()
    heights = np.arange(12.0, 2.95, -0.1)
    scan = simulate(load_sample("benzene", Tip()).atoms, Tip(), ScanGrid(along / 1e-10, across / 1e-10, heights + 3.0))
    df, centres = frequency_shift(scan.force_z, heights, Cantilever())
    layer = int(np.argmin(abs(np.asarray(centres) - 3.6)))
    assert np.ptp(measured) > 2
    np.testing.assert_allclose(measured, df[layer], atol=0.005 * np.ptp(measured))


def test_the_force_is_in_newton_and_the_height_in_metres(benzene: Simulator) -> None:
    sweep = Sweep(start=6e-10, stop=3e-10, points=16)
    request = SpectroscopyRequest(swept="z", positions=((0, 0),), sweep=sweep, channels=("force_z", "z", "converged"))
    ((force, z, converged),), _ = acquire(benzene, request)
    np.testing.assert_allclose(z, sweep.values(), rtol=1e-6)
    assert (converged == 1).all()
    heights = np.arange(12.0, 2.95, -0.05)
    scan = simulate(load_sample("benzene", Tip()).atoms, Tip(), ScanGrid([0.0], [0.0], heights + 3.0))
    expected = np.interp(-sweep.values() / ANGSTROM, -heights, np.asarray(scan.force_z)[:, 0, 0]) * EV_PER_ANGSTROM
    np.testing.assert_allclose(force, expected, atol=1e-12)
    assert force.min() < -5e-12


def test_an_image_over_a_turned_frame_shows_the_turned_molecule(benzene: Simulator) -> None:
    """Benzene is the same after 60 degrees, not after 30."""
    square = ScanFrame(size=(1e-9, 1e-9))
    straight, half, full = (
        image(benzene, frame=ScanFrame(size=square.size, angle=angle), pixels=(12, 12)) for angle in (0, 30, 60)
    )
    contrast = np.ptp(straight)
    np.testing.assert_allclose(straight, full, atol=0.02 * contrast)
    assert abs(straight - half).max() > 0.05 * contrast


def test_layers_and_lines_do_not_depend_on_what_is_measured_with_them(benzene: Simulator) -> None:
    alone = image(benzene)
    stack = image(benzene, heights=(5e-10, 3.6e-10, 4e-10)).reshape(3, 10, 12)
    np.testing.assert_allclose(stack[1], alone, atol=2e-3)
    down = image(benzene, slow_direction="down")
    np.testing.assert_allclose(down[::-1], alone, atol=1e-4)
    both = image(benzene, direction="both").reshape(10, 2, 12)
    np.testing.assert_array_equal(both[:, 0], both[:, 1])


def test_a_scan_of_many_blocks_has_no_seams(benzene: Simulator) -> None:
    frame = ScanFrame(size=(0.2e-9, 1e-9))
    fine = image(benzene, frame=frame, pixels=(600, 20))
    coarse = image(
        benzene, frame=ScanFrame(size=(0.2e-9 / 600, 1e-9), center=(0.1e-9 * (1 / 600 - 1), 0)), pixels=(1, 20)
    )
    np.testing.assert_allclose(fine[:, 0], coarse[:, 0], atol=1e-3)


def test_a_surface_attracts() -> None:
    bare, above = (image(Simulator(sample="benzene", **options)) for options in ({}, {"surface": "Au"}))
    assert (above < bare).all()


def test_a_periodic_sample_repeats_itself(tmp_path: Path) -> None:
    (tmp_path / "chain.xyz").write_text('2\nLattice="2.5 0 0 0 4.3 0 0 0 20" pbc="T T F"\nC 0 0 0\nC 1.2 2.1 0\n')
    driver = Simulator(sample=str(tmp_path / "chain.xyz"))
    here, there = (image(driver, frame=ScanFrame(size=(5e-10, 4.3e-10), center=(x, 0.0))) for x in (0.0, 8 * 2.5e-10))
    np.testing.assert_allclose(here, there, atol=1e-3)
    assert np.ptp(here) > 0.01


def test_the_xenon_tip_sees_a_blurred_molecule() -> None:
    sharp, blurred = (image(Simulator(sample="benzene", tip=tip), heights=(3.4e-10,)) for tip in ("CO", "Xe"))
    assert abs(sharp - blurred).max() > 0.5


def test_an_exchanged_tip_sees_what_one_would_that_was_there_from_the_start() -> None:
    driver = Simulator(sample="benzene", tip_exchange_time=300.0)
    before = driver.read()
    with_co = image(driver)
    driver.exchange_tip("Xe")
    after = driver.read()
    assert (before.probe, after.probe) == ("CO", "Xe")
    assert after.time - before.time > 300
    assert after.tip is TipState.WITHDRAWN
    np.testing.assert_array_equal(image(driver), image(Simulator(sample="benzene", tip="xe")))
    driver.exchange_tip("CO")
    np.testing.assert_array_equal(image(driver), with_co)


def test_tips_of_ones_own_stand_beside_those_that_are_known() -> None:
    mine = {"element": "Xe", "rest": [0, 0, 4], "charges": [[0.3, 0]]}
    driver = Simulator(sample="benzene", probes={"Xe": mine, "mine": mine}, tip="Mine")
    assert driver.read().probe == "mine"
    assert driver.capabilities().probes == ("CO", "Xe", "Cl", "H2O", "Cu", "mine")
    with_it = image(driver)
    driver.exchange_tip("Xe")
    np.testing.assert_array_equal(image(driver), with_it)
    assert abs(with_it - image(Simulator(sample="benzene", tip="Xe"))).max() > 0.1
    with pytest.raises(ConfigurationError, match=r"probes\.mine is .*'argon'.*expected element"):
        Simulator(sample="benzene", probes={"mine": {"argon": 1}})


def test_a_stop_leaves_the_probe_that_was_there() -> None:
    driver = Simulator(sample="benzene", clock="realtime", vertical_speed=1.0)
    stopping = threading.Timer(0.2, driver.stop)
    stopping.start()
    driver.exchange_tip("Xe")
    assert driver.read().probe == "CO"
    assert driver.read().time < 60


def test_a_tip_that_was_given_by_numbers_has_no_name() -> None:
    assert Simulator(sample="benzene", tip={"element": "Xe"}).read().probe is None


def test_a_tip_can_be_described() -> None:
    described = {"element": "O", "rest": [0, 0, 3], "stiffness": [0.25, 0.25, 0, 30], "charges": []}
    neutral = image(Simulator(sample="benzene", tip=described))
    assert abs(neutral - image(Simulator(sample="benzene"))).max() > 1e-3


# ---------------------------------------------------------------------- seeds, clock, stop


def test_noise_is_as_strong_as_asked_for_and_comes_from_the_seed() -> None:
    def noisy(seed: int) -> np.ndarray:
        return image(Simulator(sample="benzene", noise=0.5, seed=seed), pixels=(64, 64))

    clean = image(Simulator(sample="benzene"), pixels=(64, 64))
    assert np.std(noisy(1) - clean) == pytest.approx(0.5, rel=0.05)
    np.testing.assert_array_equal(noisy(1), noisy(1))
    assert abs(noisy(1) - noisy(2)).max() > 0.5


def test_two_acquisitions_have_different_noise() -> None:
    driver = Simulator(sample="benzene", noise=0.5)
    assert abs(image(driver) - image(driver)).max() > 0.1


def test_instrument_time_is_what_lines_and_ways_cost() -> None:
    driver = Simulator(sample="benzene", clock="accelerated")
    begin = driver.read().time
    image(driver, pixels=(8, 10), line_time=2.0, direction="both")
    lines = 10 * 2 * 2.0
    assert lines < driver.read().time - begin < lines + 1
    before = driver.read().time
    driver.move_to(10e-9, 0, driver.read().position.z)
    assert driver.read().time - before == pytest.approx(0.5, rel=0.1)


def test_a_real_clock_takes_real_time() -> None:
    driver = Simulator(sample="benzene", clock="realtime")
    driver.open()
    begin = time.monotonic()
    image(driver, pixels=(8, 5), line_time=0.1)
    assert time.monotonic() - begin > 0.5


@pytest.mark.parametrize("what", ["scan", "move"])
def test_a_stop_from_another_thread_ends_a_minute_of_work_at_once(what: str) -> None:
    driver = Simulator(sample="benzene", clock="realtime", lateral_speed=1e-9)
    driver.open()
    stopped = []

    def stop() -> None:
        stopped.append(time.monotonic())
        driver.stop()

    threading.Timer(0.5, stop).start()
    if what == "scan":
        traces = image(driver, line_time=60)
        assert len(traces) == 0
    else:
        driver.move_to(45e-9, 0, driver.read().position.z)
        assert 0 < driver.read().position.x < 45e-9
    # 200 ms are promised; a busy machine may need longer, the work would need a minute.
    assert time.monotonic() - stopped[0] < 2


# ---------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": "benzene"}, "unknown option 'samples'.*sample"),
        ({"amplitude": -1e-10}, "amplitude is -1e-10.*above zero"),
        ({"amplitude": float("nan")}, "amplitude is nan"),
        ({"amplitude": "wide"}, "amplitude is 'wide'"),
        ({"noise": -1}, "noise is -1"),
        ({"clock": "fast"}, "clock is 'fast'"),
        ({"clock": 0}, "above zero"),
        ({"tip": "Pb"}, "tip is 'Pb'.*CO, Xe, Cl, H2O, Cu"),
        ({"tip": {"element": "Qq"}}, "unknown element 'Qq'"),
        ({"tip": {"rest": [0, 0]}}, "3 numbers"),
        ({"tip": {"rest": [5, 0, 3]}}, "length R"),
        ({"working_height": 1e-10}, "working_height is 1e-10"),
        ({"sample": "benzine"}, "'benzine'"),
        ({"surface": "Unobtainium"}, "'Unobtainium'"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Simulator(**({"sample": "benzene"} | options))


def test_settings_seed_and_sample_stand_in_the_data(tmp_path: Path) -> None:
    with twinscope.Microscope(sample="benzene", seed=7, directory=tmp_path) as scope, scope.control():
        acquisition = scope.scan(frame=FRAME, pixels=(4, 4), channels=["frequency_shift"])
        acquisition.wait()
    settings = twinscope.load(acquisition.file).metadata["instrument"]["settings"]
    assert settings["seed"] == 7
    assert settings["sample"] == "benzene"
    assert len(settings["sample_source"]["sha256"]) == 64
    assert settings["amplitude"] == 1e-10
    assert settings["tip_model"]["element"] == "O"


def test_what_a_user_should_know_about_a_sample_stands_in_the_data(tmp_path: Path) -> None:
    (tmp_path / "bare.xyz").write_text("1\n\nC 0 0 0\n")
    sample = str(tmp_path / "bare.xyz")
    with twinscope.Microscope(sample=sample, directory=tmp_path) as scope, scope.control():
        result = scope.scan(frame=FRAME, pixels=(4, 4), channels=["frequency_shift"]).result()
    assert "no charges" in result.metadata["warnings"][0]
