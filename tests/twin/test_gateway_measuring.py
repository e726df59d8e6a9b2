"""Scans, spectroscopies and oscilloscopes through the Nanonis gateway."""

import numpy as np
import pytest

import twinscope
from tests.conftest import RampDriver, until
from tests.twin._gateway import AT_X, AT_Y, AT_Z, prepare_scan
from tests.twin._gateway import bench as bench
from tests.twin._gateway import client as client
from tests.twin.nanonis_wire import RefusedError, WireClient
from twinscope.errors import TwinscopeError
from twinscope.requests import Sweep

# ---------------------------------------------------------------------- scans


@pytest.mark.parametrize("direction", [0, 1], ids=["down", "up"])
def test_a_frame_is_grabbed_in_the_order_in_which_it_was_measured(bench, direction: int) -> None:
    b = bench()
    with b.connect() as client:
        prepare_scan(client)
        client("Scan.Action", scan_action=0, scan_direction=direction)
        ended = client("Scan.WaitEndOfScan", timeout=-1)
        assert ended["timeout_status"] == 0
        assert ended["file_path"].endswith("-scan.h5")
        xs, ys = np.float32([8e-9, 1e-8, 1.2e-8]), np.float32([1.9e-8, 2.1e-8])
        rows = ys if direction else ys[::-1]
        forward = client("Scan.FrameDataGrab", channel_index=AT_X, data_direction=1)
        assert forward["channel_name"] == "at_x (m)"
        assert forward["scan_direction"] == direction
        np.testing.assert_allclose(forward["scan_data"], [xs, xs], rtol=1e-6)
        grabbed = client("Scan.FrameDataGrab", channel_index=AT_Y, data_direction=1)["scan_data"]
        np.testing.assert_allclose(grabbed, np.repeat(rows[:, None], 3, axis=1), rtol=1e-6)
        # The ramp driver marks the way back by a millimetre.
        backward = client("Scan.FrameDataGrab", channel_index=AT_X, data_direction=0)["scan_data"]
        np.testing.assert_allclose(backward, [xs[::-1] + 1e-3] * 2, rtol=1e-6)
        own = b.scope.current_acquisition().partial()
        assert np.array_equal(own["at_x"].values[:: 1 if direction else -1], forward["scan_data"])


def test_the_buffer_has_the_scans_of_others_too(bench) -> None:
    b = bench(RampDriver(rate=10))
    frame = twinscope.ScanFrame(size=(1e-9, 1e-9))
    with b.connect() as client:
        with b.scope.control():
            stack = b.scope.scan(frame=frame, pixels=(4, 3), channels=["at_z"], heights=[2e-9, 1e-9], line_time=0.5)
            assert client("Scan.StatusGet")["scan_status"] == 1
            client("Scan.WaitEndOfScan", timeout=-1)
        data = client("Scan.FrameDataGrab", channel_index=AT_Z, data_direction=1)["scan_data"]
        assert np.array_equal(data, stack.result()["at_z"].values[1])
        with pytest.raises(RefusedError, match="no channel 'at_z_backward' was recorded"):
            client("Scan.FrameDataGrab", channel_index=AT_Z, data_direction=0)
        with pytest.raises(RefusedError, match="at_x is not recorded by the scan: it records at_z"):
            client("Scan.FrameDataGrab", channel_index=AT_X, data_direction=1)


def test_the_angle_of_a_frame_counts_clockwise(bench) -> None:
    b = bench()
    with b.connect() as client:
        prepare_scan(client, angle=30)
        assert client("Scan.FrameGet")["angle"] == 30
        client("Scan.Action", scan_action=0, scan_direction=1)
        client("Scan.WaitEndOfScan", timeout=-1)
        assert b.scope.current_acquisition().request.frame.angle == -30
        client("Scan.FrameSet", center_x=0, center_y=0, width=1e-9, height=1e-9, angle=0)
        assert str(client("Scan.FrameGet")["angle"]) == "0.0"


def test_lines_that_are_not_yet_scanned_are_nan_and_a_scan_can_be_paused_and_stopped(bench) -> None:
    b = bench(RampDriver(rate=20))
    with b.connect(0) as client, b.connect(1) as other:
        prepare_scan(client, lines=50)
        before = client("Scan.FrameDataGrab", channel_index=AT_X, data_direction=1)
        assert before["scan_data"].shape == (50, 3)
        assert np.isnan(before["scan_data"]).all()
        client("Scan.Action", scan_action=0, scan_direction=1)
        assert client("Scan.WaitEndOfScan", timeout=10) == {"timeout_status": 1, "file_path": ""}
        assert client("Scan.StatusGet")["scan_status"] == 1

        def scanned() -> int:
            data = other("Scan.FrameDataGrab", channel_index=AT_X, data_direction=1)["scan_data"]
            known = ~np.isnan(data).any(axis=1)
            # They are known from the first on.
            assert (np.diff(known.astype(int)) <= 0).all()
            return int(known.sum())

        until(lambda: scanned() >= 2)
        client.send("Scan.WaitEndOfScan", timeout=-1)
        other("Scan.Action", scan_action=2, scan_direction=1)
        until(lambda: b.scope.state().status == "paused")
        resting = scanned()
        other("Scan.Action", scan_action=3, scan_direction=1)
        until(lambda: scanned() > resting)
        other("Scan.Action", scan_action=1, scan_direction=1)
        # Who waits hears of it as of an end.
        results, status, _ = client.receive("Scan.WaitEndOfScan")
        assert (results["timeout_status"], status) == (0, 0)
        assert other("Scan.StatusGet")["scan_status"] == 0
        assert 0 < scanned() < 50
        assert b.scope.current_acquisition().progress().state == "aborted"


def test_a_continuous_bouncy_scan_goes_on_the_other_way_until_it_is_stopped(bench) -> None:
    b = bench(RampDriver(rate=100))
    props = {"autosave": 3, "series_name": "night", "comment": "", "modules_names": ()}
    with b.connect() as client:
        prepare_scan(client, lines=5)
        client("Scan.PropsSet", continuous_scan=1, bouncy_scan=1, **props)
        client("Scan.Action", scan_action=0, scan_direction=1)
        assert client("Scan.WaitEndOfScan", timeout=-1)["file_path"] == ""
        until(lambda: len(b.scope.jobs()) >= 4)
        client("Scan.Action", scan_action=1, scan_direction=1)
        ways = [b.scope.acquisition(job["id"]).request.slow_direction for job in b.scope.jobs()]
        assert ways[:4] == ["up", "down", "up", "down"]
        assert client("Scan.StatusGet")["scan_status"] == 0
        assert client("Scan.PropsGet") == {
            "continuous_scan": 1,
            "bouncy_scan": 1,
            "autosave": 2,
            "series_name": "night",
            "comment": "",
        }


def test_the_z_mode_of_a_scan_is_what_the_z_controller_does(bench) -> None:
    b = bench()
    with b.connect() as client:
        prepare_scan(client)
        for status, mode in ((0, "constant_height"), (1, "constant_current")):
            client("ZCtrl.OnOffSet", z_controller_status=status)
            client("Scan.Action", scan_action=0, scan_direction=1)
            client("Scan.WaitEndOfScan", timeout=-1)
            assert b.scope.current_acquisition().request.z_mode == mode


def test_the_speed_is_kept_or_the_time_per_line(bench) -> None:
    with bench().connect() as client:
        prepare_scan(client, time=2.0)
        speed = client("Scan.SpeedGet")
        assert speed["forward_linear_speed"] == np.float32(3e-9)
        assert speed["keep_parameter_constant"] == 1
        client("Scan.SpeedSet", **speed | {"forward_linear_speed": 2e-9, "keep_parameter_constant": 1})
        client("Scan.FrameSet", center_x=0, center_y=0, width=8e-9, height=4e-9, angle=0)
        assert client("Scan.SpeedGet")["forward_time_per_line"] == 4
        with pytest.raises(RefusedError, match="speed ratio of 2 is not possible"):
            client("Scan.SpeedSet", **speed | {"speed_ratio": 2})
        client("Scan.BufferSet", channel_indexes=[AT_X], pixels=6, lines=0)
        assert client("Scan.BufferGet")["lines"] == 4


def test_a_scan_that_fails_says_why_to_who_waits_for_it(bench) -> None:
    class Failing(RampDriver):
        def poll(self) -> bool:
            raise TwinscopeError("the piezo is hot")

    with bench(Failing()).connect() as client:
        prepare_scan(client)
        client("Scan.Action", scan_action=0, scan_direction=1)
        with pytest.raises(RefusedError, match="the piezo is hot"):
            client("Scan.WaitEndOfScan", timeout=-1)


# ---------------------------------------------------------------------- spectroscopies


def test_z_spectroscopy_sweeps_from_where_the_tip_is_and_returns(bench) -> None:
    b = bench()
    with b.connect() as client:
        client("ZCtrl.OnOffSet", z_controller_status=1)
        client("ZSpectr.Open")
        client("ZSpectr.ChsSet", channel_indexes=[AT_Z])
        client("ZSpectr.RangeSet", z_offset=1e-10, z_sweep_distance=4e-10)
        props = client("ZSpectr.PropsGet")
        wanted = {"number_of_points": 5, "number_of_sweeps": 3, "backward_sweep": 1}
        kept = dict.fromkeys(("autosave", "show_save_dialog", "save_all"), 0)
        client("ZSpectr.PropsSet", **wanted, **kept)
        got = client("ZSpectr.Start", get_data=1, save_base_name="")
        assert got["channels_names"] == ("Z rel (m)", "at_z (m)", "at_z [bwd] (m)")
        relative = np.linspace(1e-10, 5e-10, 5)
        np.testing.assert_allclose(got["data"][0], relative, rtol=1e-5)
        # The way back is in the order of the way there.
        np.testing.assert_allclose(got["data"][1:], [1e-9 + relative] * 2, rtol=1e-5)
        names = props["fixed_parameters"] + props["parameters"]
        assert dict(zip(names, got["parameters"], strict=True))["Z (m)"] == np.float32(1e-9)
        assert client("ZCtrl.OnOffGet")["z_controller_status"] == 1
        assert client("ZSpectr.StatusGet")["status"] == 0
        assert len(b.scope.jobs()) == 3


def test_bias_spectroscopy_is_linear_or_in_segments(bench) -> None:
    b = bench()
    with b.connect() as client:
        client("BiasSpectr.ChsSet", channel_indexes=[AT_X, AT_Z])
        client("BiasSpectr.LimitsSet", start_value=-0.2, end_value=0.2)
        kept = dict.fromkeys(("save_all", "backward_sweep", "autosave", "show_save_dialog"), 0)
        client("BiasSpectr.PropsSet", number_of_sweeps=1, number_of_points=3, z_offset=2e-10, **kept)
        timing = client("BiasSpectr.TimingGet")
        client("BiasSpectr.TimingSet", **timing | {"settling_time": 0.01, "integration_time": 0.03})
        got = client("BiasSpectr.Start", get_data=1, save_base_name="")
        assert got["channels_names"] == ("Bias calc (V)", "at_x (m)", "at_z (m)")
        np.testing.assert_allclose(got["data"][0], [-0.2, 0, 0.2], rtol=1e-6)
        request = b.scope.current_acquisition().request
        assert request.sweep == Sweep(start=-0.2, stop=0.2, points=3)
        assert request.height == pytest.approx(1.2e-9)
        assert request.point_time == pytest.approx(0.04)
        slow = timing | {"settling_time": 0.01, "integration_time": 0.03, "maximum_slew_rate": 2.0}
        client("BiasSpectr.TimingSet", **slow)
        client("BiasSpectr.Start", get_data=1, save_base_name="")
        # Steps of 0.2 V at 2 V/s.
        assert b.scope.current_acquisition().request.point_time == pytest.approx(0.1)
        client("BiasSpectr.TimingSet", **timing)
        client("BiasSpectr.MLSModeSet", sweep_mode="MLS")
        client(
            "BiasSpectr.MLSValsSet",
            bias_start=[0.0, 1.0],
            bias_end=[1.0, 0.5],
            initial_settling_time=[0.0, 0.0],
            settling_time=[0.0, 0.0],
            integration_time=[0.1, 0.2],
            steps=[2, 3],
            lock_in_run=[0, 0],
        )
        got = client("BiasSpectr.Start", get_data=1, save_base_name="")
        assert got["data"][0].tolist() == [0, 1, 1, 0.75, 0.5]
        assert client("BiasSpectr.MLSValsGet")["steps"].tolist() == [2, 3]


def test_a_spectroscopy_without_data_runs_on_and_can_be_stopped(bench) -> None:
    b = bench(RampDriver(rate=0.1))
    with b.connect() as client:
        client("BiasSpectr.Start", get_data=0, save_base_name="")
        assert client("BiasSpectr.StatusGet")["status"] == 1
        with pytest.raises(RefusedError, match=r"busy|is running already"):
            client("BiasSpectr.Start", get_data=0, save_base_name="")
        # One that is stopped before it begins was none.
        until(lambda: b.scope.state().acquisition is not None, timeout=30)
        client("BiasSpectr.Stop")
        assert client("BiasSpectr.StatusGet")["status"] == 0
        assert b.scope.current_acquisition().progress().state == "aborted"


def test_the_generic_sweeper_sweeps_what_can_be_swept(bench) -> None:
    with bench().connect() as client:
        assert client("GenSwp.SwpSignalGet")["channels_names"] == ("Z (m)", "Bias (V)")
        with pytest.raises(RefusedError, match="a sweep of Current"):
            client("GenSwp.SwpSignalSet", sweep_channel_name="Current (A)")
        client("GenSwp.SwpSignalSet", sweep_channel_name="Bias (V)")
        client("GenSwp.AcqChsSet", channel_indexes=[], channel_names=["at_y (m)"])
        assert client("GenSwp.AcqChsGet")["channel_indexes"].tolist() == [AT_Y]
        client("GenSwp.LimitsSet", lower_limit=-1, upper_limit=1)
        props = client("GenSwp.PropsGet")
        client("GenSwp.PropsSet", **props | {"number_of_steps": 3, "period": 20})
        got = client("GenSwp.Start", get_data=1, sweep_direction=0, save_base_name="", reset_signal=1, z_controller=1)
        assert got["channels_names"] == ("Bias (V)", "at_y (m)")
        assert got["data"][0].tolist() == [1, 0, -1]


@pytest.mark.parametrize(("pattern", "count"), [(1, 6), (2, 4), (3, 2)], ids=["grid", "line", "cloud"])
def test_a_grid_experiment_takes_a_spectrum_at_each_point(bench, pattern: int, count: int) -> None:
    b = bench()
    with b.connect() as client:
        props = client("Pattern.PropsGet")
        del props["list_of_experiments"]
        client("Pattern.PropsSet", basename="", **props | {"selected_experiment": "Z Spectroscopy"})
        grid = {"center_x": 0, "center_y": 0, "width": 6e-9, "height": 2e-9, "angle": 0}
        points = {"number_of_points_in_x": 3, "number_of_points_in_y": 2}
        client("Pattern.GridSet", set_active_pattern=0, grid_is_scan_frame=0, **points, **grid)
        ends = {"line_point_1_x": 0, "line_point_1_y": 0, "line_point_2_x": 3e-9, "line_point_2_y": 0}
        client("Pattern.LineSet", set_active_pattern=0, number_of_points=4, line_is_scan_frame=0, **ends)
        client("Pattern.CloudSet", set_active_pattern=0, x_coordinates=[1e-9, 2e-9], y_coordinates=[0, 1e-9])
        client("Pattern.ExpOpen")
        client("Pattern.ExpStart", pattern=pattern)
        until(lambda: client("Pattern.ExpStatusGet")["status"] == 0)
        positions = b.scope.current_acquisition().request.positions
        assert len(positions) == count
        assert (
            positions[:2]
            == {
                1: ((-2e-9, -5e-10), (0.0, -5e-10)),
                2: ((0.0, 0.0), (pytest.approx(1e-9), 0.0)),
                3: ((1e-9, 0.0), (2e-9, 1e-9)),
            }[pattern]
        )


def test_few_bytes_do_not_ask_for_more_spectra_than_fit_into_the_memory(client: WireClient) -> None:
    many = 2**31 - 1
    grid = {"center_x": 0, "center_y": 0, "width": 6e-9, "height": 2e-9, "angle": 0}
    points = {"number_of_points_in_x": many, "number_of_points_in_y": many}
    with pytest.raises(RefusedError, match="spectra were asked for: expected at most"):
        client("Pattern.GridSet", set_active_pattern=1, grid_is_scan_frame=0, **points, **grid)
    ends = {"line_point_1_x": 0, "line_point_1_y": 0, "line_point_2_x": 3e-9, "line_point_2_y": 0}
    with pytest.raises(RefusedError, match=f"{many} spectra were asked for"):
        client("Pattern.LineSet", set_active_pattern=1, number_of_points=many, line_is_scan_frame=0, **ends)
    client("Pattern.LineSet", set_active_pattern=1, number_of_points=1000, line_is_scan_frame=0, **ends)
    kept = dict.fromkeys(("backward_sweep", "autosave", "show_save_dialog", "save_all"), 0)
    client("BiasSpectr.PropsSet", number_of_points=3, number_of_sweeps=2000, z_offset=0, **kept)
    with pytest.raises(RefusedError, match="2000000 spectra were asked for"):
        client("Pattern.ExpStart", pattern=0)
    client("ZSpectr.PropsSet", number_of_points=many, number_of_sweeps=1, **kept)
    with pytest.raises(RefusedError, match="the data would take"):
        client("ZSpectr.Start", get_data=1, save_base_name="")


def test_oscilloscopes_record_at_the_place_of_the_tip(bench) -> None:
    b = bench()
    with b.connect() as client:
        client("OsciHR.ChSet", channel_index=AT_Z)
        client("OsciHR.SamplesSet", number_of_samples=7)
        client("OsciHR.OversamplSet", oversampling_index=3)
        got = client("OsciHR.OsciDataGet", data_to_get=1, timeout=10.0)
        assert got["timeout"] == 0
        assert got["data_dt"] == 8e-6
        assert got["data_y"].tolist() == [np.float32(1e-9)] * 7
        count = len(b.scope.jobs())
        assert client("OsciHR.OsciDataGet", data_to_get=0, timeout=10.0)["data_t0"] == got["data_t0"]
        assert len(b.scope.jobs()) == count
        client("OsciHR.ChSet", channel_index=AT_X)
        assert client("OsciHR.OsciDataGet", data_to_get=0, timeout=10.0)["data_y"].tolist() == [0] * 7
        client("Osci1T.ChSet", channel_index=AT_X)
        assert len(client("Osci1T.DataGet", data_to_get=1)["data_y"]) == 256


def test_marks_are_kept_hidden_and_erased(client: WireClient) -> None:
    client("Marks.PointDraw", x_coordinate=1e-9, y_coordinate=2e-9, text="here", color=255)
    client("Marks.PointsDraw", x_coordinate=[0, 1], y_coordinate=[2, 3], text=["a", "b"], color=[1, 2])
    ends = ("start_point_x_coordinate", "start_point_y_coordinate", "end_point_x_coordinate", "end_point_y_coordinate")
    client("Marks.LineDraw", **dict.fromkeys(ends, 1), color=3)
    client("Marks.PointsVisibleSet", point_index=0, show_hide=1)
    client("Marks.PointsErase", point_index=1)
    points = client("Marks.PointsGet")
    assert points["text"] == ("here", "b")
    assert points["visible"].tolist() == [0, 1]
    assert client("Marks.LinesGet")["color"].tolist() == [3]
    client("Marks.LinesErase", line_index=-1)
    assert client("Marks.LinesGet")["color"].tolist() == []
    with pytest.raises(RefusedError, match="none with the index 2"):
        client("Marks.PointsErase", point_index=2)
