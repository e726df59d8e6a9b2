"""HDF5 files: NSID of other programs, and our own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import twinscope
from tests.drivers import _recordings as write
from twinscope.drivers.replay.readers import read_recording
from twinscope.errors import ConfigurationError, StoreError

FOUR = ["HeightRetrace", "AmplitudeRetrace", "DeflectionRetrace", "PhaseRetrace"]
MICROMETERS = {
    "PMN28Pt0000": 4,
    "PMN28Pt0001": 2,
    "PMN28Pt0002": 2,
    "PZT_final0001": 2,
    "PZT_final0002": 2,
    "PZT_final0003": 2,
    "PZT_thick0004": 3,
    "PZT_thick0006": 3,
    "PZT_thick0009": 1,
    **{f"PTO_Funakubo000{i + 1}": size for i, size in enumerate((1, 5, 1, 3, 1, 5, 1))},
}


@pytest.mark.parametrize("name", MICROMETERS)
def test_an_image_of_piezoresponse_has_its_extent_and_the_right_units(shared: Path, name: str) -> None:
    recording = read_recording(shared / "dtmicroscope" / f"{name}.h5")
    units = {image.quantity: image.unit for image in recording.images}
    assert {quantity: units[quantity] for quantity in FOUR} == dict(zip(FOUR, ("m", "m", "m", "deg"), strict=True))
    if name.startswith("PZT"):
        assert units["NapPhaseRetrace"] == "deg"
        assert units["UserIn0Retrace"] == units["NapUserIn0Retrace"] == "V"
        assert units["NapAmplitudeRetrace"] == "m"
    assert len(units) == (8 if name.startswith("PZT") else 4)
    shape = (128, 256) if name == "PZT_thick0009" else (256, 256)
    for image in recording.images:
        assert image.direction == "backward"
        assert image.data.shape == shape
        # From the middle of the first pixel to that of the last one.
        extent = np.array(image.frame.size) * (np.array(shape[::-1]) - 1) / np.array(shape[::-1])
        np.testing.assert_allclose(extent, MICROMETERS[name] * 1e-6)
        np.testing.assert_allclose(image.frame.center, MICROMETERS[name] * 0.5e-6)
    assert len(recording.by_frame()) == 1
    corrected = [warning for warning in recording.warnings if "corrected" in warning]
    assert len(corrected) == (5 if name.startswith("PZT") else 2)


def test_values_and_settings_are_those_of_the_file(shared: Path) -> None:
    path = shared / "dtmicroscope" / "PZT_thick0009.h5"
    recording = read_recording(path)
    assert len(recording.images) == 8
    with h5py.File(path, "r") as file:
        for number, image in enumerate(recording.images):
            dataset = file[f"Measurement_000/Channel_{number}/Channel_{number}/Channel_{number}"]
            assert image.quantity == dataset.attrs["quantity"]
            # x is the first axis of the file.
            np.testing.assert_array_equal(image.data, dataset[...].T)
    assert recording.images[0].line_time == pytest.approx(0.5 / 2.0032)
    assert recording.metadata["ScanAngle"] == 90


def test_wrong_units_are_kept_when_they_are_asked_for(shared: Path) -> None:
    recording = read_recording(shared / "dtmicroscope" / "PZT_thick0009.h5", keep_units=True)
    assert {channel.name: channel.unit for channel in recording.channels}["nap_phase"] == "m"


def test_hysteresis_loops_keep_their_order(shared: Path) -> None:
    path = shared / "dtmicroscope" / "BEPS_PTO_50x50.h5"
    recording = read_recording(path)
    (spectra,) = recording.spectra
    assert (spectra.swept, spectra.swept_unit) == ("bias", "V")
    assert spectra.data.shape == (2500, 1, 64)
    with h5py.File(path, "r") as file:
        group = file["Channel_000/generic"]
        np.testing.assert_array_equal(spectra.values, group["Voltage"])
        # x is the first axis of the file, and runs first in the recording.
        for column, row in ((3, 7), (49, 0), (20, 49)):
            index = row * 50 + column
            np.testing.assert_array_equal(spectra.data[index, 0], group["generic"][column, row])
            np.testing.assert_array_equal(spectra.positions[index], [group["X"][column], group["Y"][row]])
    assert spectra.values[0] == 0.0
    assert spectra.values[-1] == pytest.approx(-0.53, abs=0.01)
    assert recording.warnings == ()


def axis(name: str, count: int, unit: str = "m", kind: str = "SPATIAL", step: float = 1e-9) -> Any:
    return name, unit, kind, step * np.arange(count)


def test_axes_in_another_unit_order_and_direction(tmp_path: Path) -> None:
    path = tmp_path / "image.h5"
    axes = [("y", "nm", "SPATIAL", np.arange(2.0)[::-1]), ("x", "nm", "SPATIAL", np.arange(3.0) * 2)]
    write.nsid(path, [{"values": write.ramp(2, 3), "quantity": "Current", "units": "pA", "axes": axes}])
    (image,) = read_recording(path).images
    np.testing.assert_allclose(image.data, write.ramp(2, 3)[::-1] * 1e-12, rtol=1e-6)
    assert (image.unit, image.name) == ("A", "current")
    np.testing.assert_allclose([image.frame.size, image.frame.center], [(6e-9, 2e-9), (2e-9, 0.5e-9)])


def test_only_a_metre_that_cannot_be_is_corrected(tmp_path: Path) -> None:
    path = tmp_path / "image.h5"
    metres, degrees = [axis("x", 3), axis("y", 2)], [axis("x", 3, "deg"), axis("y", 2, "deg")]
    shown = [("AmplitudeRetrace", "V", metres), ("PhaseTrace", "m", degrees), ("Phase", "m", metres)]
    datasets = [{"values": write.ramp(3, 2), "quantity": q, "units": unit, "axes": axes} for q, unit, axes in shown]
    write.nsid(path, datasets)
    recording = read_recording(path)
    assert [image.unit for image in recording.images] == ["V", "deg", "m"]
    assert len({image.frame for image in recording.images}) == 1
    write.nsid(path, [{"values": write.ramp(3, 2), "quantity": "Phase", "units": "deg", "axes": degrees}])
    with pytest.raises(StoreError, match="is in 'deg', expected a length"):
        read_recording(path)


def test_stacks_are_time_series(tmp_path: Path) -> None:
    path = tmp_path / "stack.h5"
    stack = np.arange(24.0).reshape(2, 3, 4)
    lateral = [axis("x", 3), axis("y", 4)]
    times = ("t", "ms", "TEMPORAL", np.array([500.0, 700.0]))
    heights = ("layer", "m", "UNKNOWN", np.array([1e-9, 2e-9]))
    write.nsid(
        path,
        [
            {"values": stack, "quantity": "Current", "units": "A", "axes": [times, *lateral]},
            {"values": stack, "quantity": "Force", "units": "N", "axes": [heights, *lateral]},
        ],
    )
    recording = read_recording(path)
    series = recording.series("current")
    np.testing.assert_allclose([image.time for image in series], [0.0, 0.2])
    np.testing.assert_array_equal(series[1].data, stack[1].T)
    assert [image.time for image in recording.series("force")] == [0.0, 1.0]
    assert any("'layer'" in warning for warning in recording.warnings)


def test_a_single_spectrum_and_what_is_neither(tmp_path: Path) -> None:
    path = tmp_path / "spectrum.h5"
    bias = ("bias", "mV", "SPECTRAL", np.array([0.0, 10.0, 0.0]))
    four = [axis("a", 1, kind="SPECTRAL"), axis("b", 1, kind="SPECTRAL"), axis("x", 1), axis("y", 1)]
    write.nsid(
        path,
        [
            {"values": np.arange(3.0), "quantity": "Current", "units": "nA", "axes": [bias]},
            {"values": np.zeros((1, 1, 1, 1)), "quantity": "Force", "units": "N", "axes": four},
            {"values": np.arange(3) + 1j, "quantity": "Signal", "units": "V", "axes": [bias]},
        ],
    )
    recording = read_recording(path)
    (spectra,) = recording.spectra
    np.testing.assert_allclose(spectra.values, [0.0, 0.01, 0.0])
    np.testing.assert_allclose(spectra.data, np.arange(3.0).reshape(1, 1, 3) * 1e-9)
    assert sum("left out" in warning for warning in recording.warnings) == 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([0.0, 1.0, 4.0]), "not equidistant"),
        (np.zeros(3), "not equidistant"),
        (np.array([0.0, np.nan, 2.0]), "not finite"),
        (np.arange(4.0), "has the shape"),
    ],
)
def test_axes_that_cannot_be_are_refused(tmp_path: Path, values: np.ndarray, said: str) -> None:
    path = tmp_path / "image.h5"
    axes = [("x", "m", "SPATIAL", values), axis("y", 2)]
    write.nsid(path, [{"values": np.zeros((3, 2)), "quantity": "Z", "units": "m", "axes": axes}])
    with pytest.raises(StoreError, match=said):
        read_recording(path)


def test_hdf5_without_measurements_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.h5"
    with h5py.File(path, "w") as file:
        file["values"] = np.arange(3)
    with pytest.raises(StoreError, match="holds neither images nor spectra"):
        read_recording(path)


def test_data_that_are_elsewhere_or_only_promised_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("image", (10000, 10000), "f8")
        dataset.attrs.update({"quantity": "Z", "units": "m", "main_data_name": "image"})
        for index, name in enumerate("xy"):
            file[name] = np.arange(10000) * 1e-9
            file[name].make_scale(name)
            dataset.dims[index].attach_scale(file[name])
    with pytest.raises(StoreError, match="only 0 bytes"):
        read_recording(path)
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("image", (2, 2), "f8", external=[("/etc/passwd", 0, 32)])
        dataset.attrs.update({"quantity": "Z", "units": "m", "main_data_name": "image"})
    with pytest.raises(StoreError, match="in other files"):
        read_recording(path)


def test_groups_within_themselves_and_links_elsewhere_end(tmp_path: Path) -> None:
    path = tmp_path / "image.h5"
    axes = [axis("x", 2), axis("y", 2)]
    write.nsid(path, [{"values": write.ramp(2, 2), "quantity": "Z", "units": "m", "axes": axes}])
    with h5py.File(path, "a") as file:
        file["Measurement_000/again"] = file["Measurement_000"]
        file["elsewhere"] = h5py.ExternalLink("/dev/zero", "/")
        file["nowhere"] = h5py.SoftLink("/nothing")
    assert len(read_recording(path).images) == 1


@pytest.fixture
def saved(ramp: twinscope.Microscope, tmp_path: Path) -> Callable[..., Path]:
    """Acquire something with a microscope that records where its tip is, and save it."""

    def acquire(request: Any) -> Path:
        with ramp.control():
            return ramp.acquire(request).result(timeout=20).save(tmp_path / "measured.h5")

    return acquire


FRAME = twinscope.ScanFrame(size=(4e-9, 2e-9), center=(1e-9, 2e-9), angle=30.0)


def test_our_own_scan(saved: Callable[..., Path]) -> None:
    request = twinscope.ScanRequest(
        frame=FRAME, pixels=(4, 3), channels=("at_x", "at_z"), heights=(1e-9, 2e-9), direction="both", line_time=0.5
    )
    recording = read_recording(saved(request))
    assert recording.format == "twinscope"
    assert len(recording.images) == 2 * 2 * 2
    first, second = recording.series("at_x")
    assert second.time == 0.5 * 3 * 2
    assert (first.frame, first.unit, first.line_time) == (FRAME, "m", 0.5)
    for row in range(3):
        np.testing.assert_allclose(first.data[row], request.row_positions(row)[0], rtol=1e-6)
    np.testing.assert_allclose(recording.series("at_x", "backward")[0].data, first.data + 1e-3, rtol=1e-6)
    assert any("time series" in warning for warning in recording.warnings)


def test_our_own_spectra_and_profiles(saved: Callable[..., Path], tmp_path: Path) -> None:
    positions = ((1e-9, 2e-9), (3e-9, 4e-9), (0.0, 1e-9))
    sweep = twinscope.Sweep(start=1e-9, stop=0.0, points=5)
    request: Any = twinscope.SpectroscopyRequest(swept="z", positions=positions, sweep=sweep, channels=("at_z", "at_x"))
    path = saved(request)
    (spectra,) = read_recording(path).spectra
    path.unlink()
    assert (spectra.swept, spectra.swept_unit) == ("z", "m")
    np.testing.assert_array_equal(spectra.positions, positions)
    np.testing.assert_array_equal(spectra.values, sweep.values())
    np.testing.assert_allclose(spectra.data[1], [sweep.values(), np.full(5, 3e-9)], rtol=1e-6)
    for separate in (False, True):
        request = twinscope.PathRequest(positions=positions, channels=("at_x",), passes=2, separate=separate)
        path = saved(request)
        (profile,) = read_recording(path).spectra
        path.unlink()
        assert profile.swept == "pass"
        np.testing.assert_allclose(profile.data[:, 0], np.repeat(np.array(positions)[:, :1], 2, axis=1), rtol=1e-6)


def test_our_own_file_may_be_taken_for_nsid_and_others_not_for_ours(saved: Callable[..., Path], tmp_path: Path) -> None:
    path = saved(twinscope.ScanRequest(frame=FRAME, pixels=(4, 3), channels=("at_x",)))
    image = read_recording(path, format="nsid").images[0]
    np.testing.assert_array_equal(image.data, read_recording(path).images[0].data)
    np.testing.assert_allclose([image.frame.size, image.frame.center], [FRAME.size, FRAME.center])
    other = tmp_path / "other.h5"
    axes = [axis("x", 2), axis("y", 2)]
    write.nsid(other, [{"values": write.ramp(2, 2), "quantity": "Z", "units": "m", "axes": axes}])
    with pytest.raises(StoreError, match="not one of twinscope"):
        read_recording(other, format="twinscope")


def test_altered_data_of_our_own_are_refused(saved: Callable[..., Path]) -> None:
    path = saved(twinscope.ScanRequest(frame=FRAME, pixels=(4, 3), channels=("at_x",)))
    with h5py.File(path, "r+") as file:
        file["Measurement_000/Channel_000/at_x/at_x"][0, 0] = 1.0
    with pytest.raises(StoreError, match="checksum differs"):
        read_recording(path)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "what.xyz"
    path.write_bytes(b"hello")
    with pytest.raises(ConfigurationError, match=r"the format of .*what.xyz is not known: expected one of twinscope"):
        read_recording(path)
    with pytest.raises(ConfigurationError, match="the format 'jpeg' is not known"):
        read_recording(path, format="jpeg")
