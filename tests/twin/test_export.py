"""What other programs find in exported files."""

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import twinscope
from twinscope import ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.capabilities import Channel
from twinscope.errors import InvalidRequestError, MissingPackageError, StoreError
from twinscope.requests import PathRequest
from twinscope.results import Measurement, assemble

CHANNELS = (Channel("frequency_shift", "Hz", "Frequency shift"), Channel("phase", "1", "Phase"))
NAMES = tuple(channel.name for channel in CHANNELS)
SCAN = ScanRequest(
    frame=ScanFrame(size=(4e-9, 3e-9), center=(10e-9, 20e-9), angle=30),
    pixels=(5, 4),
    channels=NAMES,
    direction="both",
)
STACK = ScanRequest(
    frame=ScanFrame(size=(4e-9, 3e-9)), pixels=(3, 2), channels=NAMES, heights=(5e-10, 4e-10), slow_direction="down"
)
SPECTRA = SpectroscopyRequest(
    swept="z", positions=((0, 0), (1e-9, 2e-9)), sweep=Sweep(start=1e-9, stop=5e-10, points=6), channels=NAMES
)
PROFILE = PathRequest(positions=((0, 0), (1e-9, 0), (2e-9, 1e-9)), channels=NAMES, passes=2)


def measured(request: Any, absent: int = 0) -> Measurement:
    """Make a measurement of random numbers, of which the last traces are missing."""
    shape = (request.trace_count, len(CHANNELS), request.trace_length)
    traces = np.random.default_rng(1).normal(size=shape).astype("<f4")
    traces[len(traces) - absent :] = np.nan
    metadata = {
        "id": "20261001-120000-000000",
        "kind": request.kind,
        "request": request.to_dict(),
        "channels": [{"name": c.name, "unit": c.unit, "quantity": c.quantity} for c in CHANNELS],
        "created": "2026-10-01T12:00:00.000+00:00",
        "instrument": {"instrument": "twin", "driver": "simulator", "driver_version": "1"},
        "operator": "ann",
        "purpose": "a",
        "state": "aborted" if absent else "done",
        "warnings": [],
        "error": None,
    }
    return assemble(request, CHANNELS, traces, metadata)


def test_our_own_format_is_what_save_writes(tmp_path: Path) -> None:
    result = measured(SCAN)
    for name in ("a.h5", "b.nsid"):
        loaded = twinscope.load(result.export(tmp_path / name))
        np.testing.assert_array_equal(loaded["phase_backward"], result["phase_backward"])


@pytest.mark.parametrize("name", ["a.h5", "a.nxs", "a.gwy"])
def test_no_export_is_written_over_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(StoreError, match="exists already"):
        measured(SCAN).export(tmp_path / name)
    assert (tmp_path / name).read_text() == "precious"


def test_the_format_can_be_named_and_must_be_known(tmp_path: Path) -> None:
    path = measured(SCAN).export(tmp_path / "scan.dat", format="gwy")
    assert path.read_bytes().startswith(b"GWYP")
    for wrong in ({"path": tmp_path / "a.png"}, {"path": tmp_path / "a.gwy", "format": "tiff"}):
        with pytest.raises(InvalidRequestError, match=r"expected one of nsid \(.h5\)"):
            measured(SCAN).export(**wrong)
    with pytest.raises(StoreError, match="cannot be written"):
        measured(SCAN).export(tmp_path / "absent" / "a.nxs")


def test_without_gwyfile_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "gwyfile.objects", None)
    with pytest.raises(MissingPackageError, match=r"twinscope\[export\]"):
        measured(SCAN).export(tmp_path / "a.gwy")
    assert not (tmp_path / "a.gwy").exists()


# ---------------------------------------------------------------------- NeXus


def classes(group: h5py.Group) -> dict[str, str]:
    found: dict[str, str] = {}
    group.visititems(
        lambda name, item: found.update({name: item.attrs["NX_class"]} if "NX_class" in item.attrs else {})
    )
    return found


def test_a_nexus_file_has_the_tree_of_nxspm(tmp_path: Path) -> None:
    with h5py.File(measured(SCAN).export(tmp_path / "a.nxs")) as file:
        environment = "instrument/scan_environment"
        assert classes(file["entry"]) == {
            "process": "NXprocess",
            "user": "NXuser",
            "metadata": "NXnote",
            "instrument": "NXinstrument",
            "instrument/hardware": "NXfabrication",
            "instrument/software": "NXfabrication",
            environment: "NXenvironment",
            f"{environment}/scan_control": "NXspm_scan_control",
            f"{environment}/scan_control/scan_region": "NXspm_scan_region",
            f"{environment}/scan_control/mesh_scan": "NXspm_scan_pattern",
            **dict.fromkeys([*NAMES, "frequency_shift_backward", "phase_backward"], "NXdata"),
        }
        entry = file["entry"]
        assert entry.attrs["NX_class"] == "NXentry"
        assert entry["definition"].asstr()[()] == "NXspm"
        assert entry["scan_mode"].asstr()[()] == "constant height"
        assert entry["scan_type"].asstr()[()] == "both"
        assert entry["user/name"].asstr()[()] == "ann"
        assert datetime.fromisoformat(entry["start_time"].asstr()[()]).year == 2026
        assert json.loads(entry["metadata/data"][()])["request"] == json.loads(json.dumps(SCAN.to_dict()))
        region = entry[f"{environment}/scan_control/scan_region"]
        assert (region["scan_range_x"][()], region["scan_range_x"].attrs["units"]) == (4e-9, "m")
        assert (region["scan_offset_value_y"][()], region["scan_offset_value_y"].attrs["units"]) == (20e-9, "m")
        assert (region["scan_angle_x"][()], region["scan_angle_x"].attrs["units"]) == (30, "deg")
        mesh = entry[f"{environment}/scan_control/mesh_scan"]
        assert (mesh["scan_points_x"][()], mesh["scan_points_y"][()]) == (5, 4)
        assert mesh["step_size_y"][()] == pytest.approx(0.75e-9)


@pytest.mark.parametrize("request_", [SCAN, STACK, SPECTRA, PROFILE], ids=["scan", "stack", "spectra", "profile"])
def test_a_nexus_reader_finds_the_default_plot_with_units_and_axes(tmp_path: Path, request_: Any) -> None:
    """It goes from `default` to `default` and then to `signal`, as NeXus prescribes."""
    result = measured(request_, absent=1)
    with h5py.File(result.export(tmp_path / "a.nxs")) as file:
        group = file[file.attrs["default"]]
        group = group[group.attrs["default"]]
        assert group.attrs["NX_class"] == "NXdata"
        signal = group[group.attrs["signal"]]
        np.testing.assert_array_equal(signal[()], result["frequency_shift"])
        assert signal.attrs["units"] == "Hz"
        assert list(group.attrs["axes"]) == [axis.name for axis in result["frequency_shift"].axes]
        for index, axis in enumerate(result["frequency_shift"].axes):
            np.testing.assert_array_equal(group[axis.name][()], axis.values)
            assert group[axis.name].attrs["units"] == axis.unit.replace("1", "")
            assert group.attrs[f"{axis.name}_indices"] == index
        assert file["entry/phase/data"].attrs["units"] == ""


def test_positions_of_spectra_are_in_the_nexus_file(tmp_path: Path) -> None:
    with h5py.File(measured(SPECTRA).export(tmp_path / "a.nxs")) as file:
        control = file["entry/instrument/scan_environment/scan_control"]
        np.testing.assert_array_equal(control["traj_scan/trajectory_points"], SPECTRA.positions)
        assert control["scan_region/scan_end_y"][()] == 2e-9


FULL_DISK = """
import resource, signal, sys, pathlib
sys.path.insert(0, sys.argv[1])
from test_export import SCAN, measured
from twinscope.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for name in ("a.nxs", "a.gwy", "a.h5"):
    path = pathlib.Path(sys.argv[2]) / name
    try:
        measured(SCAN).export(path)
    except StoreError as exc:
        assert "cannot be" in str(exc), exc
        assert not path.exists()
    else:
        raise AssertionError(name)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are a thing of POSIX")
def test_an_export_to_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    pytest.importorskip("gwyfile")
    subprocess.run([sys.executable, "-c", FULL_DISK, str(Path(__file__).parent), str(tmp_path)], check=True)


# ---------------------------------------------------------------------- Gwyddion


def read_gwy(path: Path) -> Any:
    gwyfile = pytest.importorskip("gwyfile")
    return gwyfile.load(str(path))


def test_gwyddion_gets_images_from_the_top_with_size_and_units(tmp_path: Path) -> None:
    result = measured(SCAN)
    content = read_gwy(result.export(tmp_path / "a.gwy"))
    for number, (name, data) in enumerate(result.items()):
        field = content[f"/{number}/data"]
        assert content[f"/{number}/data/title"] == name
        np.testing.assert_array_equal(field.data, data.values[::-1])
        assert (field.xreal, field.yreal) == (4e-9, 3e-9)
        assert field.si_unit_xy.unitstr == "m"
        assert f"/{number}/mask" not in content
    assert content["/0/data"].si_unit_z.unitstr == "Hz"
    assert content["/1/data"].si_unit_z.unitstr == ""
    assert content["/0/meta"]["purpose"] == "a"
    assert json.loads(content["/0/meta"]["request"])["frame"]["angle"] == 30


def test_gwyddions_y_is_the_negative_of_ours_in_every_row(tmp_path: Path) -> None:
    """The middle of row r is at yoff + (r + 1/2) dy, from the top; our rows count from the bottom."""
    result = measured(SCAN)
    field = read_gwy(result.export(tmp_path / "a.gwy"))["/0/data"]
    y, x = (axis.values for axis in result["frequency_shift"].axes)
    np.testing.assert_allclose(-(field.yoff + (np.arange(4) + 0.5) * field.yreal / 4), y[::-1], rtol=1e-12)
    np.testing.assert_allclose(field.xoff + (np.arange(5) + 0.5) * field.xreal / 5, x, rtol=1e-12)


def test_pixels_that_were_not_measured_are_masked_in_gwyddion(tmp_path: Path) -> None:
    result = measured(SCAN, absent=2)
    content = read_gwy(result.export(tmp_path / "a.gwy"))
    absent = np.isnan(result["frequency_shift"].values)[::-1]
    assert absent[0].all()
    np.testing.assert_array_equal(content["/0/mask"].data, absent)
    values = content["/0/data"].data
    np.testing.assert_array_equal(values[~absent], result["frequency_shift"].values[::-1][~absent])
    np.testing.assert_allclose(values[absent], np.nanmean(result["frequency_shift"].values.astype(float)))


def test_an_image_of_nothing_is_all_mask(tmp_path: Path) -> None:
    content = read_gwy(measured(SCAN, absent=8).export(tmp_path / "a.gwy"))
    assert (content["/0/data"].data == 0).all()
    assert (content["/0/mask"].data == 1).all()


def test_each_layer_of_a_stack_is_an_image(tmp_path: Path) -> None:
    result = measured(STACK)
    content = read_gwy(result.export(tmp_path / "a.gwy"))
    titles = [content[f"/{number}/data/title"] for number in range(4)]
    assert titles == [f"{name} at {height} nm" for name in NAMES for height in (0.5, 0.4)]
    np.testing.assert_array_equal(content["/3/data"].data, result["phase"].values[1, ::-1])


@pytest.mark.parametrize(("request_", "x_unit"), [(SPECTRA, "m"), (PROFILE, "")], ids=["spectra", "profile"])
def test_spectra_and_profiles_are_curves_without_what_was_not_measured(
    tmp_path: Path, request_: Any, x_unit: str
) -> None:
    result = measured(request_, absent=1)
    content = read_gwy(result.export(tmp_path / "a.gwy"))
    for number, (name, data) in enumerate(result.items(), start=1):
        graph = content[f"/0/graph/graph/{number}"]
        assert graph.name == "GwyGraphModel"
        assert graph["title"] == name
        assert graph["x_unit"].unitstr == x_unit
        assert graph["left_label"] == data.quantity
        first, last = graph["curves"]
        np.testing.assert_array_equal(first["xdata"], data.axes[1].values)
        np.testing.assert_array_equal(first["ydata"], data.values[0])
        assert len(last["xdata"]) == len(last["ydata"]) == 0
