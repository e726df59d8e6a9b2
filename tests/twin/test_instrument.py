import threading
import time
from dataclasses import replace

import numpy as np
import pytest

import twinscope
from twinscope import JobState, ScanFrame, Status, Sweep, TipState
from twinscope.errors import (
    AbortedError,
    AcquisitionError,
    BusyError,
    DriverError,
    InterlockError,
    InvalidRequestError,
    LeaseError,
    NotFoundError,
    OutOfRangeError,
    UnknownChannelError,
)
from twinscope.local import LocalTransport
from twinscope.results import Profile
from twinscope.sessions import Caller, Identity, Role, Session

FRAME = ScanFrame(size=(2e-9, 1e-9), center=(0.5e-9, -0.5e-9), angle=30)


def scan(scope: twinscope.Microscope, **change: object) -> twinscope.Acquisition:
    return scope.scan(**({"frame": FRAME, "pixels": (5, 4), "channels": ["at_x", "at_y"]} | change))


# ---------------------------------------------------------------------- data


@pytest.mark.parametrize("slow_direction", ["up", "down"])
@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_each_pixel_holds_the_place_that_its_axes_say(
    ramp: twinscope.Microscope, direction: str, slow_direction: str
) -> None:
    with ramp.control():
        image = scan(ramp, direction=direction, slow_direction=slow_direction).result()
    name, shift = ("at_x_backward", 1e-3) if direction == "backward" else ("at_x", 0)
    y_axis, x_axis = image[name].axes
    along, across = np.meshgrid(x_axis.values - FRAME.center[0], y_axis.values - FRAME.center[1])
    x, y = FRAME.to_sample(along, across)
    np.testing.assert_allclose(image[name], x + shift, rtol=1e-6, atol=1e-16)
    np.testing.assert_allclose(image[name.replace("x", "y", 1)], y + shift, rtol=1e-6, atol=1e-16)
    if direction == "both":
        np.testing.assert_allclose(image["at_x_backward"], x + 1e-3, rtol=1e-6)


def test_a_stack_has_a_layer_for_each_height(ramp: twinscope.Microscope) -> None:
    with ramp.control():
        stack = scan(ramp, heights=[5e-10, 4e-10, 3e-10], channels="at_z").result()
    assert stack["at_z"].shape == (3, 4, 5)
    np.testing.assert_allclose(stack["at_z"].values.mean(axis=(1, 2)), [5e-10, 4e-10, 3e-10], rtol=1e-6)
    assert [axis.name for axis in stack["at_z"].axes] == ["height", "y", "x"]


def test_spectra_have_an_axis_of_positions_and_one_of_the_sweep(ramp: twinscope.Microscope) -> None:
    sweep = Sweep(start=5e-10, stop=3e-10, points=7)
    with ramp.control():
        spectra = ramp.spectroscopy("z", positions=[(0, 1e-9), (2e-9, 3e-9)], sweep=sweep, channels=["at_y", "at_z"])
        result = spectra.result()
    assert isinstance(result, twinscope.Spectrum)
    np.testing.assert_allclose(result["at_y"].values[:, 0], [1e-9, 3e-9], rtol=1e-6)
    np.testing.assert_allclose(result["at_z"].values[1], sweep.values(), rtol=1e-6)


def test_a_path_has_an_axis_of_passes_and_one_of_positions(ramp: twinscope.Microscope) -> None:
    positions = [(0.0, 0.0), (1e-9, 0.0), (1e-9, 2e-9)]
    with ramp.control():
        result = ramp.scan_path(positions, channels=["at_x", "at_y", "at_z"], passes=2, height=3e-10).result()
    assert isinstance(result, Profile)
    assert [(axis.name, axis.unit) for axis in result["at_x"].axes] == [("pass", "1"), ("position", "1")]
    for name, values in (("at_x", [0, 1e-9, 1e-9]), ("at_y", [0, 0, 2e-9]), ("at_z", [3e-10] * 3)):
        np.testing.assert_allclose(result[name], [values] * 2, rtol=1e-6, err_msg=name)


def test_separate_points_have_an_axis_of_positions_and_one_of_passes(ramp: twinscope.Microscope) -> None:
    positions = [(0.0, 0.0), (1e-9, 0.0), (1e-9, 2e-9)]
    with ramp.control():
        result = ramp.scan_path(positions, channels="at_y", passes=4, separate=True, lift=1e-9).result()
    assert isinstance(result, Profile)
    assert [axis.name for axis in result["at_y"].axes] == ["position", "pass"]
    np.testing.assert_array_equal(result["at_y"].axes[0].values, [0, 1, 2])
    np.testing.assert_allclose(result["at_y"], np.repeat([[0.0], [0.0], [2e-9]], 4, axis=1), rtol=1e-6)


def test_a_line_is_a_path_of_equidistant_points(ramp: twinscope.Microscope) -> None:
    with ramp.control():
        result = ramp.scan_line((0, 0), (3e-9, 0), 4, channels="at_x").result()
    assert isinstance(result, Profile)
    np.testing.assert_allclose(result["at_x"].values[0], [0, 1e-9, 2e-9, 3e-9], rtol=1e-6)


def test_a_spectroscopy_of_the_bias_has_an_axis_in_volts(ramp: twinscope.Microscope) -> None:
    sweep = Sweep(start=-1, stop=1, points=5)
    with ramp.control():
        spectra = ramp.spectroscopy("bias", positions=[(0, 0), (1e-9, 0)], sweep=sweep, channels="at_z", height=4e-10)
        result = spectra.result()
    assert isinstance(result, twinscope.Spectrum)
    position, voltage = result["at_z"].axes
    assert (position.name, voltage.name, voltage.unit) == ("position", "voltage", "V")
    np.testing.assert_array_equal(voltage.values, sweep.values())
    np.testing.assert_allclose(result["at_z"], np.full((2, 5), 4e-10), rtol=1e-6)


def test_a_grid_of_spectra_lies_on_the_pixels_of_its_frame(ramp: twinscope.Microscope) -> None:
    sweep = Sweep(start=5e-10, stop=3e-10, points=2)
    with ramp.control():
        grid = ramp.spectroscopy("z", positions=FRAME.grid((3, 2)), sweep=sweep, channels=["at_x", "at_y"]).result()
        image = scan(ramp, pixels=(3, 2)).result()
    for name in ("at_x", "at_y"):
        np.testing.assert_allclose(grid[name].values[:, 0].reshape(2, 3), image[name], rtol=1e-6)


@pytest.mark.parametrize("kind", ["scan", "path", "points", "spectroscopy", "bias"])
def test_each_kind_of_result_is_the_same_in_its_file_and_in_a_copy(
    ramp: twinscope.Microscope, kind: str, tmp_path
) -> None:
    begin = {
        "scan": lambda: scan(ramp, direction="both", heights=[5e-10, 4e-10], slow_direction="down"),
        "path": lambda: ramp.scan_path([(0, 0), (1e-9, 0)], channels=["at_x", "at_y"], passes=3),
        "points": lambda: ramp.scan_path([(0, 0), (1e-9, 0)], channels="at_x", passes=3, separate=True),
        "spectroscopy": lambda: ramp.spectroscopy(
            positions=FRAME.grid((2, 2)), sweep=Sweep(start=5e-10, stop=4e-10, points=3), channels=["at_z", "at_x"]
        ),
        "bias": lambda: ramp.spectroscopy(
            "bias", positions=[(0, 0)], sweep=Sweep(start=0, stop=1, points=3), channels="at_x"
        ),
    }
    with ramp.control():
        acquisition = begin[kind]()
        result = acquisition.result()
    copy = result.save(tmp_path / "copy.h5")
    for path in (acquisition.file, copy):
        loaded = twinscope.load(path)
        assert type(loaded) is type(result)
        assert loaded.request == result.request
        assert list(loaded) == list(result)
        for name, data in result.items():
            np.testing.assert_array_equal(loaded[name].values, data.values)
            assert (loaded[name].unit, loaded[name].quantity) == (data.unit, data.quantity)
            for axis, expected in zip(loaded[name].axes, data.axes, strict=True):
                assert (axis.name, axis.unit, axis.quantity) == (expected.name, expected.unit, expected.quantity)
                np.testing.assert_array_equal(axis.values, expected.values)


def test_lines_come_in_the_order_of_measurement_with_their_address(ramp: twinscope.Microscope) -> None:
    with ramp.control():
        acquisition = scan(ramp, direction="both", slow_direction="down")
        lines = list(acquisition.lines())
    assert [line.index for line in lines] == list(range(8))
    assert [(line.address.row, line.address.direction) for line in lines[:3]] == [
        (3, "forward"),
        (3, "backward"),
        (2, "forward"),
    ]
    image = acquisition.result()
    np.testing.assert_array_equal(lines[2].values["at_x"], image["at_x"].values[2])


def test_a_result_knows_where_and_when_it_was_taken(ramp: twinscope.Microscope) -> None:
    with ramp.control():
        ramp.move_to(x=1e-9, z=2e-9)
        result = scan(ramp).result()
    assert result.metadata["position"] == {"x": 1e-9, "y": 0.0, "z": 2e-9}
    assert result.metadata["instrument_time"] == pytest.approx(0.1)
    assert len(repr(result)) < 200


@pytest.mark.parametrize("change", [{"heights": 4e-10}, {"channels": None}, {"channels": 7}, {"pixels": None}])
def test_a_scan_with_a_wrong_kind_of_value_is_refused(ramp: twinscope.Microscope, change: dict[str, object]) -> None:
    with ramp.control(), pytest.raises(InvalidRequestError, match=next(iter(change))):
        scan(ramp, **change)


def test_any_client_can_read_an_acquisition_by_its_id_later(ramp: twinscope.Microscope) -> None:
    with ramp.control():
        first = scan(ramp)
        first.wait()
        scan(ramp).wait()
    again = ramp.acquisition(first.id)
    np.testing.assert_array_equal(again.result()["at_x"], first.result()["at_x"])
    assert ramp.current_acquisition().id != first.id
    assert len(list(again.lines(start=3))) == 1


def test_when_an_acquisition_is_over_the_next_can_begin_at_once(ramp: twinscope.Microscope) -> None:
    with ramp.control():
        for _ in range(50):
            scan(ramp, pixels=(1, 1)).wait()


def test_an_unknown_acquisition_is_named(ramp: twinscope.Microscope) -> None:
    with pytest.raises(NotFoundError, match="'nothing'"):
        ramp.acquisition("nothing")


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"channels": ["at_x", "frequency_shfit"]}, UnknownChannelError, "'frequency_shfit'.*at_x, at_y, at_z"),
        ({"frame": ScanFrame(size=(1e-9, 1e-9), center=(1e-6, 0))}, OutOfRangeError, "frame corner x"),
        ({"frame": ScanFrame(size=(1.9e-6, 1.9e-6), angle=45)}, OutOfRangeError, "frame corner"),
        ({"heights": [1e-9, -2e-6]}, OutOfRangeError, "height = -2e-06"),
        ({"pixels": (100_000, 100_000)}, OutOfRangeError, "80 GB"),
    ],
)
def test_what_the_instrument_cannot_do_is_refused_and_nothing_changes(
    ramp: twinscope.Microscope, change: dict[str, object], error: type[Exception], message: str
) -> None:
    before = ramp.state()
    with ramp.control():
        with pytest.raises(error, match=message):
            scan(ramp, **change)
        assert ramp.state().position == before.position
        assert ramp.state().acquisition is None
        assert scan(ramp).result().complete


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ({"x": 2e-6}, OutOfRangeError, r"x = 2e-06 m is outside its range of -1e-06 to 1e-06 m"),
        ({"x": 0.0, "z": -1.0}, OutOfRangeError, "z = -1 m"),
        ({"y": float("nan")}, InvalidRequestError, "y is nan"),
        ({"y": float("inf")}, InvalidRequestError, "y is inf"),
        ({"x": "1e-9"}, InvalidRequestError, "x is '1e-9'"),
        ({}, InvalidRequestError, "no coordinate"),
    ],
)
def test_a_wrong_move_is_refused_and_the_tip_stays(
    ramp: twinscope.Microscope, target: dict[str, object], error: type[Exception], message: str
) -> None:
    with ramp.control():
        ramp.move_to(x=1e-9, y=2e-9)
        before = ramp.state().position
        with pytest.raises(error, match=message):
            ramp.move_to(**target)
        assert ramp.state().position == before


def test_an_image_with_the_tip_withdrawn_is_refused(ramp: twinscope.Microscope) -> None:
    with ramp.control():
        ramp.withdraw()
        assert ramp.state().tip is TipState.WITHDRAWN
        with pytest.raises(InvalidRequestError, match="approach"):
            scan(ramp)
        ramp.approach()
        assert scan(ramp).result().complete


# ---------------------------------------------------------------------- lease


def test_moving_and_acquiring_need_control(ramp: twinscope.Microscope) -> None:
    with pytest.raises(LeaseError, match="control"):
        ramp.move_to(x=0)
    with pytest.raises(LeaseError, match="control"):
        scan(ramp)


def test_a_second_client_is_told_who_holds_the_instrument(instrument) -> None:
    shared = instrument()
    one, two = (twinscope.Microscope(transport=LocalTransport(shared)) for _ in range(2))
    with one.control(purpose="counting atoms"):
        with pytest.raises(LeaseError, match="counting atoms"), two.control():
            pass
        assert two.state().lease["purpose"] == "counting atoms"
        assert two.capabilities().instrument == "ramp"
    with two.control():
        two.move_to(x=1e-9)


def test_control_can_be_waited_for(instrument) -> None:
    shared = instrument()
    one, two = (twinscope.Microscope(transport=LocalTransport(shared)) for _ in range(2))
    held = threading.Event()

    def hold() -> None:
        with one.control():
            held.set()
            time.sleep(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with two.control(wait=20):
        two.move_to(x=1e-9)
    thread.join()


def test_a_silent_holder_loses_control_and_its_lease_is_worth_nothing(instrument) -> None:
    shared = instrument()
    one, two = (Caller(Session(name, Identity(name, Role.OPERATOR), name)) for name in ("one", "two"))
    old = shared.acquire_lease(one, "", 0.2)
    time.sleep(0.4)
    fresh = shared.acquire_lease(two, "", 10)
    assert fresh.number > old.number
    with pytest.raises(LeaseError, match="expired"):
        shared.command(replace(one, lease=old.number), "withdraw")
    # Neither does the number of someone else's lease help.
    with pytest.raises(LeaseError, match="expired"):
        shared.command(replace(one, lease=fresh.number), "withdraw")
    job = shared.command(replace(two, lease=fresh.number), "withdraw")
    assert job.done.wait(5)
    assert job.error is None


def test_control_is_renewed_while_the_client_lives(instrument) -> None:
    scope = twinscope.Microscope(transport=LocalTransport(instrument()))
    with scope.control(duration=0.3):
        time.sleep(1)
        scope.move_to(x=1e-9)
    assert scope.state().lease is None


def test_control_is_not_nested(ramp: twinscope.Microscope) -> None:
    with ramp.control(), pytest.raises(LeaseError, match="nested"), ramp.control():
        pass


# ---------------------------------------------------------------------- abort, failure, life


def test_one_thing_at_a_time(instrument, ramp_driver) -> None:
    scope = twinscope.Microscope(transport=LocalTransport(instrument(ramp_driver(rate=1.0))))
    with scope.control():
        acquisition = scan(scope, line_time=10)
        with pytest.raises(BusyError, match=acquisition.id):
            scan(scope)
        with pytest.raises(BusyError, match=acquisition.id):
            scope.move_to(x=0)
        acquisition.abort()
        scope.move_to(x=0)


def test_an_abort_keeps_what_was_measured(instrument, ramp_driver) -> None:
    scope = twinscope.Microscope(transport=LocalTransport(instrument(ramp_driver(rate=1.0))))
    with scope.control():
        acquisition = scan(scope, line_time=0.1, pixels=(5, 500))
        lines = acquisition.lines()
        next(lines), next(lines)
        begin = time.monotonic()
        acquisition.abort()
        assert time.monotonic() - begin < 2
        with pytest.raises(AbortedError):
            list(lines)
        with pytest.raises(AbortedError, match="aborted"):
            acquisition.result()
        partial = acquisition.partial()
        assert scope.state().status is Status.IDLE
    assert not partial.complete
    assert partial.metadata["state"] == "aborted"
    done = partial.metadata["traces_done"]
    assert 2 <= done < 500
    assert np.isfinite(partial["at_x"].values[:done]).all()
    assert np.isnan(partial["at_x"].values[done:]).all()
    on_disk = twinscope.load(acquisition.file)
    np.testing.assert_array_equal(on_disk["at_x"], partial["at_x"])
    assert on_disk.metadata["state"] == "aborted"


def test_a_withdrawal_ends_whatever_is_in_progress(instrument, ramp_driver) -> None:
    scope = twinscope.Microscope(transport=LocalTransport(instrument(ramp_driver(rate=1.0))))
    with scope.control():
        acquisition = scan(scope, line_time=30)
        scope.withdraw()
        assert scope.state().tip is TipState.WITHDRAWN
        assert acquisition.progress().state is JobState.ABORTED


def test_a_stopped_move_is_not_taken_for_an_arrival(instrument, ramp_driver) -> None:
    driver = ramp_driver(rate=0.1)
    scope = twinscope.Microscope(transport=LocalTransport(instrument(driver)))
    stopping = threading.Timer(0.2, driver.stop)
    with scope.control():
        stopping.start()
        with pytest.raises(AbortedError, match="stopped"):
            scope.move_to(x=5e-9)
        assert scope.state().position.x == 0
    stopping.join()


def test_a_driver_that_fails_is_opened_again_and_moves_only_when_an_operator_says_so(instrument, ramp_driver) -> None:
    class Failing(ramp_driver):
        opened = 0

        def open(self) -> None:
            self.opened += 1

        def poll(self) -> bool:
            if self.index == 2:
                raise ZeroDivisionError("the preamplifier is gone")
            return super().poll()

    driver = Failing()
    scope = twinscope.Microscope(transport=LocalTransport(instrument(driver)))
    with scope.control():
        acquisition = scan(scope)
        with pytest.raises(DriverError, match="preamplifier"):
            acquisition.result()
        assert np.isfinite(acquisition.partial()["at_x"].values[:2]).all()
        assert scope.wait_ready(5)
        state = scope.state()
        assert state.status is Status.IDLE
        assert driver.opened == 2
        assert "preamplifier" in state.blocked
        assert state.tip is TipState.UNKNOWN
        for forbidden in (scope.withdraw, scope.approach, lambda: scope.move_to(x=0), lambda: scan(scope)):
            with pytest.raises(InterlockError, match="acknowledge"):
                forbidden()
        scope.acknowledge()
        assert scope.state().tip is TipState.IN_RANGE
        scope.move_to(x=0)
        with pytest.raises(InvalidRequestError, match="nothing to acknowledge"):
            scope.acknowledge()
    assert twinscope.load(acquisition.file).metadata["state"] == "failed"


@pytest.mark.parametrize("traces", [np.zeros((1, 1, 5)), np.zeros((1, 2, 4)), np.zeros((9, 2, 5))])
def test_traces_of_the_wrong_shape_are_the_drivers_error(instrument, ramp_driver, traces: np.ndarray) -> None:
    class Wrong(ramp_driver):
        def poll(self) -> bool:
            self.sink.write(0, traces)
            return True

    scope = twinscope.Microscope(transport=LocalTransport(instrument(Wrong())))
    with scope.control(), pytest.raises(DriverError, match="shape"):
        scan(scope).result()


def test_a_driver_that_ends_early_is_an_error(instrument, ramp_driver) -> None:
    class Short(ramp_driver):
        def poll(self) -> bool:
            return self.index < 1 and super().poll()

    scope = twinscope.Microscope(transport=LocalTransport(instrument(Short())))
    with scope.control(), pytest.raises((AcquisitionError, DriverError), match="1 of 4 traces"):
        scan(scope).result()


def test_a_driver_that_does_not_open_is_reported(instrument, ramp_driver) -> None:
    class Dead(ramp_driver):
        def open(self) -> None:
            raise OSError("no controller at 10.0.0.7")

    scope = twinscope.Microscope(transport=LocalTransport(instrument(Dead())))
    assert scope.wait_ready(5)
    assert scope.state().status is Status.FAILED
    with scope.control(), pytest.raises(DriverError, match=r"no controller at 10\.0\.0\.7"):
        scope.move_to(x=0)


def test_what_is_asked_for_while_warming_is_done_afterwards(instrument, ramp_driver) -> None:
    warm = threading.Event()

    class Slow(ramp_driver):
        def open(self) -> None:
            warm.wait(20)

    scope = twinscope.Microscope(transport=LocalTransport(instrument(Slow())))
    assert scope.state().status is Status.WARMING
    assert not scope.wait_ready(0.05)
    with scope.control():
        acquisition = scan(scope)
        assert acquisition.progress().state is JobState.QUEUED
        warm.set()
        assert acquisition.result().complete


def test_an_abort_while_warming_is_kept(instrument, ramp_driver) -> None:
    warm = threading.Event()

    class Slow(ramp_driver):
        def open(self) -> None:
            warm.wait(20)

    scope = twinscope.Microscope(transport=LocalTransport(instrument(Slow())))
    with scope.control():
        acquisition = scan(scope)
        acquisition.abort()
        warm.set()
        with pytest.raises(AbortedError):
            acquisition.result()
        assert scan(scope).result().complete


def test_closing_aborts_withdraws_and_closes_the_driver(instrument, ramp_driver) -> None:
    driver = ramp_driver(rate=1.0)
    shared = instrument(driver)
    scope = twinscope.Microscope(transport=LocalTransport(shared))
    with scope.control():
        acquisition = scan(scope, line_time=0.1, pixels=(5, 500))
        next(acquisition.lines())
        shared.close()
    assert driver.closed
    assert driver.tip is TipState.WITHDRAWN
    assert shared.state().status is Status.CLOSED
    assert twinscope.load(acquisition.file).metadata["state"] == "aborted"
    shared.close()


def test_the_state_has_a_growing_revision(ramp: twinscope.Microscope) -> None:
    first = ramp.state().revision
    with ramp.control():
        scan(ramp).wait()
    assert ramp.state().revision > first


def test_progress_tells_how_long_it_takes(instrument, ramp_driver) -> None:
    scope = twinscope.Microscope(transport=LocalTransport(instrument(ramp_driver(rate=1.0))))
    with scope.control():
        acquisition = scan(scope, line_time=0.1, pixels=(3, 10))
        assert acquisition.progress().remaining is None or acquisition.progress().done > 0
        lines = acquisition.lines()
        for _ in range(5):
            next(lines)
        progress = acquisition.progress()
        assert progress.state is JobState.RUNNING
        assert progress.total == 10
        assert 0 < progress.remaining < 5
        with pytest.raises(TimeoutError, match="goes on"):
            acquisition.result(timeout=0.01)
        acquisition.abort()


def test_instruments_may_share_a_directory(instrument) -> None:
    scopes = [twinscope.Microscope(transport=LocalTransport(instrument())) for _ in range(3)]
    files = set()
    for scope in scopes * 2:
        with scope.control():
            acquisition = scan(scope)
            assert acquisition.result().complete
            files.add(acquisition.file)
    assert len(files) == 6


def test_an_abort_after_the_last_trace_changes_nothing(instrument, ramp_driver) -> None:
    class Late(ramp_driver):
        def poll(self) -> bool:
            going = super().poll()
            if self.index == self.request.trace_count:
                self.sink.abort_requested = True
            return going

    scope = twinscope.Microscope(transport=LocalTransport(instrument(Late())))
    with scope.control():
        assert scan(scope).result().complete


def test_old_acquisitions_leave_the_memory_and_stay_on_disk(ramp: twinscope.Microscope, monkeypatch) -> None:
    monkeypatch.setattr("twinscope.job_book._KEPT_BYTES", 400)
    with ramp.control():
        acquisitions = []
        for _ in range(4):
            acquisitions.append(scan(ramp))
            acquisitions[-1].wait()
    assert ramp.acquisition(acquisitions[-1].id).result().complete
    with pytest.raises(NotFoundError, match=acquisitions[0].id):
        ramp.acquisition(acquisitions[0].id)
    assert twinscope.load(acquisitions[0].file).complete


@pytest.mark.parametrize("error", [OSError("no space left"), RuntimeError("flush failed")])
def test_a_file_that_cannot_be_written_harms_no_later_scan(ramp: twinscope.Microscope, monkeypatch, error) -> None:
    import h5py

    def full(self) -> None:
        raise error

    with ramp.control():
        with monkeypatch.context() as patch:
            patch.setattr(h5py.File, "flush", full)
            with pytest.raises(twinscope.TwinscopeError, match=str(error)):
                scan(ramp).result()
        assert ramp.state().status is Status.IDLE
        assert scan(ramp).result().complete


def test_a_directory_that_cannot_be_made_is_named(ramp_driver, tmp_path) -> None:
    from twinscope.errors import StoreError
    from twinscope.guard import Guard
    from twinscope.instrument import Instrument
    from twinscope.interlocks import Interlocks

    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file/data"):
        Instrument(Guard(ramp_driver(), Interlocks()), tmp_path / "file" / "data").start()
