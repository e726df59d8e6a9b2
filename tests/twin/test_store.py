import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import twinscope
from twinscope import ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.capabilities import Channel
from twinscope.errors import InvalidRequestError, StoreError
from twinscope.requests import PathRequest
from twinscope.state import JobState
from twinscope.storage.store import AcquisitionFile, describe

FRAME = ScanFrame(size=(2e-9, 1e-9))


@pytest.fixture
def stack(ramp: twinscope.Microscope) -> tuple[twinscope.Acquisition, twinscope.Scan]:
    with ramp.control(purpose="a test"):
        acquisition = ramp.scan(
            frame=FRAME, pixels=(5, 4), channels=["at_x", "at_z"], heights=[5e-10, 4e-10], direction="both"
        )
        return acquisition, acquisition.result()


def test_the_instruments_file_holds_what_the_client_got(stack) -> None:
    acquisition, result = stack
    loaded = twinscope.load(acquisition.file)
    assert list(loaded) == list(result) == ["at_x", "at_z", "at_x_backward", "at_z_backward"]
    for name in result:
        np.testing.assert_array_equal(loaded[name], result[name])
        assert loaded[name].unit == "m"
    assert loaded.request == result.request
    assert loaded.complete
    assert loaded.metadata["purpose"] == "a test"
    assert loaded.metadata["twinscope"] == twinscope.__version__
    assert loaded.metadata["instrument"]["driver"] == "ramp"


def test_a_clients_copy_is_the_same_and_never_written_over(stack, tmp_path: Path) -> None:
    _, result = stack
    path = result.save(tmp_path / "copy.h5")
    loaded = twinscope.load(path)
    assert loaded.metadata == json.loads(json.dumps(dict(result.metadata)))
    np.testing.assert_array_equal(loaded["at_z"], result["at_z"])
    with pytest.raises(StoreError, match="exists already"):
        result.save(path)


def test_spectra_are_stored_too(ramp: twinscope.Microscope) -> None:
    with ramp.control():
        spectra = ramp.spectroscopy(
            positions=[(0, 0), (1e-9, 0)], sweep=Sweep(start=1e-9, stop=0.5e-9, points=3), channels=["at_z"]
        )
        result = spectra.result()
    loaded = twinscope.load(spectra.file)
    assert isinstance(loaded, twinscope.Spectrum)
    np.testing.assert_array_equal(loaded["at_z"], result["at_z"])


def test_plain_h5py_finds_data_units_and_axes(stack) -> None:
    acquisition, result = stack
    with h5py.File(acquisition.file) as file:
        data = file["Measurement_000/Channel_000/at_x/at_x"]
        assert data.attrs["units"] == "m"
        assert [dim.label for dim in data.dims] == ["height", "y", "x"]
        np.testing.assert_allclose(data.dims[2][0][()], result["at_x"].axes[2].values)
        assert json.loads(file.attrs["metadata"])["request"]["pixels"] == [5, 4]


@pytest.mark.filterwarnings("ignore")
def test_pynsid_and_sidpy_read_the_file(stack) -> None:
    pynsid = pytest.importorskip("pyNSID")
    acquisition, result = stack
    with h5py.File(acquisition.file) as file:
        found = pynsid.io.hdf_utils.get_all_main(file)
        assert len(found) == 4
        dataset = pynsid.io.hdf_utils.read_h5py_dataset(found[0])
    np.testing.assert_array_equal(np.asarray(dataset), result["at_x"])
    assert dataset.units == "m"
    np.testing.assert_allclose(np.asarray(dataset.x), result["at_x"].axes[2].values)


def test_results_convert_to_xarray(stack) -> None:
    _, result = stack
    dataset = result.to_xarray()
    assert dataset["at_x"].dims == ("height", "y", "x")
    assert dataset["at_x"].attrs["units"] == "m"
    np.testing.assert_array_equal(dataset["at_z_backward"], result["at_z_backward"])
    assert float(dataset["at_z"].sel(height=4e-10, method="nearest").mean()) == pytest.approx(4e-10)


@pytest.mark.filterwarnings("ignore")
def test_results_convert_to_sidpy(stack) -> None:
    _, result = stack
    dataset = result.to_sidpy("at_z")
    assert dataset.units == "m"
    assert dataset.data_type.name == "IMAGE_STACK"
    np.testing.assert_array_equal(np.asarray(dataset), result["at_z"])
    np.testing.assert_allclose(np.asarray(dataset.height), [5e-10, 4e-10])


def test_pictures_are_drawn_without_a_display(stack, ramp: twinscope.Microscope, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    from twinscope.plotting import save_picture

    _, result = stack
    axes = result.plot("at_z", ax=Figure().subplots())
    assert axes.get_xlabel() == "x (nm)"
    np.testing.assert_array_equal(axes.images[0].get_array(), result["at_z"].values[-1])
    path = save_picture(result, tmp_path / "stack.png", "at_x")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InvalidRequestError, match="'height_map'"):
        save_picture(result, path, "height_map")
    with ramp.control():
        spectra = ramp.spectroscopy(
            positions=[(0, 0), (1e-9, 0)], sweep=Sweep(start=1e-9, stop=0.5e-9, points=3), channels=["at_z"]
        ).result()
    assert len(spectra.plot(ax=Figure().subplots()).lines) == 2


@pytest.mark.parametrize(("content", "message"), [(b"", "cannot be read"), (b"\x89HDF\r\n\x1a\n" + b"0" * 99, "read")])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "broken.h5").write_bytes(content)
    with pytest.raises(StoreError, match=message):
        twinscope.load(tmp_path / "broken.h5")
    with pytest.raises(StoreError, match=r"absent\.h5"):
        twinscope.load(tmp_path / "absent.h5")


def test_a_foreign_hdf5_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["data"] = [1, 2, 3]
    with pytest.raises(StoreError, match="not one of"):
        twinscope.load(tmp_path / "foreign.h5")


def test_a_disk_that_is_full_fails_the_acquisition_and_not_the_instrument(ramp, monkeypatch) -> None:
    def full(self, first, traces):
        raise StoreError("no space left on device")

    with ramp.control():
        with monkeypatch.context() as patch:
            patch.setattr(AcquisitionFile, "write", full)
            with pytest.raises(StoreError, match="no space"):
                ramp.scan(frame=FRAME, pixels=(5, 4), channels=["at_x"]).result()
        assert ramp.scan(frame=FRAME, pixels=(5, 4), channels=["at_x"]).result().complete


def test_what_was_written_survives_the_death_of_the_writer(tmp_path: Path) -> None:
    """A process is killed with SIGKILL at a random moment of its writing; plain h5py opens what it left."""
    program = """
import sys, itertools, numpy as np
from pathlib import Path
from twinscope import ScanFrame, ScanRequest
from twinscope.capabilities import Channel
from twinscope.storage.store import AcquisitionFile
request = ScanRequest(frame=ScanFrame(size=(1e-9, 1e-9)), pixels=(64, 100000), channels=("a",))
channels = (Channel("a", "m", "a"),)
metadata = {
    "id": "id",
    "kind": "scan",
    "created": "2026-10-01T12:00:00.000+00:00",
    "request": request.to_dict(),
    "channels": [{"name": "a", "unit": "m", "quantity": "a"}],
    "instrument": {"driver": "d", "driver_version": "0", "instrument": "i"},
}
file = AcquisitionFile(Path(sys.argv[1]), request, channels, metadata)
for number in itertools.count():
    file.write(number, np.full((1, 1, 64), number, "f4"))
    print(number, flush=True)
"""
    for attempt in range(3):
        path = tmp_path / f"{attempt}.h5"
        process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process:
            seen = -1
            for _ in range(20 + 37 * attempt):
                seen = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
        with h5py.File(path) as file:
            done = int(file["progress/traces_done"][()])
            data = file["Measurement_000/Channel_000/a/a"]
            assert done > seen
            np.testing.assert_array_equal(data[:done, 0], np.arange(done))
            assert np.isnan(data[done + 1 :]).all()
        assert not twinscope.load(path).complete


def test_a_file_can_be_read_while_it_is_written(instrument, ramp_driver) -> None:
    from twinscope.local import LocalTransport

    scope = twinscope.Microscope(transport=LocalTransport(instrument(ramp_driver(rate=1.0))))
    with scope.control():
        acquisition = scope.scan(frame=FRAME, pixels=(5, 400), channels=["at_x"], line_time=0.05)
        for line in acquisition.lines():
            if line.index == 5:
                break
        reader = "import h5py, sys; print(h5py.File(sys.argv[1])['progress/traces_done'][()])"
        seen = subprocess.run([sys.executable, "-c", reader, acquisition.file], capture_output=True, text=True)
        assert int(seen.stdout) >= 6, seen.stderr
        loaded = twinscope.load(acquisition.file)
        assert np.isfinite(loaded["at_x"].values[:6]).all()
        assert loaded.metadata["state"] == "running"
        acquisition.abort()


# ---------------------------------------------------------------------- files alone, without an instrument

CHANNELS = (Channel("df", "Hz", "Frequency shift"), Channel("current", "A", "Current"))
NAMES = tuple(channel.name for channel in CHANNELS)
SMALL = ScanRequest(frame=FRAME, pixels=(5, 4), channels=NAMES, direction="both", slow_direction="down")


def begin(path: Path, request: Any = SMALL) -> AcquisitionFile:
    metadata = {
        "id": path.stem,
        "kind": request.kind,
        "created": "2026-10-01T12:00:00.000+00:00",
        "request": request.to_dict(),
        "channels": [{"name": c.name, "unit": c.unit, "quantity": c.quantity} for c in CHANNELS],
        "instrument": {"driver": "d", "driver_version": "0", "instrument": "i"},
    }
    return AcquisitionFile(path, request, CHANNELS, metadata)


def numbered(request: Any) -> np.ndarray:
    """Traces of which each value is another number."""
    shape = (request.trace_count, len(CHANNELS), request.trace_length)
    return np.arange(np.prod(shape), dtype="<f4").reshape(shape)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A file of an acquisition that is over."""
    path = tmp_path / "finished.h5"
    file = begin(path)
    file.write(0, numbered(SMALL))
    file.finish(JobState.DONE, None, [])
    return path


def end_of(path: Path) -> dict[str, Any]:
    with h5py.File(path) as file:
        end: dict[str, Any] = json.loads(bytes(file["progress/end"][...]).rstrip(b"\0"))
        return end


def test_the_end_has_the_checksum_of_each_dataset(finished: Path) -> None:
    end = end_of(finished)
    assert (end["state"], end["complete"]) == ("done", True)
    assert list(end["checksums"]) == ["df", "current", "df_backward", "current_backward"]
    with h5py.File(finished) as file:
        data = file["Measurement_000/Channel_003/current_backward/current_backward"][()]
    assert end["checksums"]["current_backward"] == hashlib.sha256(data.astype("<f4").tobytes()).hexdigest()
    metadata, checksums = describe(finished)
    assert checksums == end["checksums"]
    assert (metadata["state"], metadata["traces_done"]) == ("done", 8)


def test_data_that_were_altered_are_noticed_and_the_channel_named(finished: Path) -> None:
    with h5py.File(finished, "r+") as file:
        file["Measurement_000/Channel_001/current/current"][2, 3] += 1
    with pytest.raises(StoreError, match=r"finished.h5 is damaged: .*'current'"):
        twinscope.load(finished)
    assert twinscope.load(finished, verify=False)["df"].shape == (4, 5)


def test_a_single_bit_that_flips_on_the_disk_is_noticed(finished: Path) -> None:
    with h5py.File(finished) as file:
        offset = file["Measurement_000/Channel_000/df/df"].id.get_offset()
    content = bytearray(finished.read_bytes())
    content[offset + 41] ^= 1
    finished.write_bytes(content)
    with pytest.raises(StoreError, match="'df'"):
        twinscope.load(finished)


def test_a_file_without_an_end_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "unfinished.h5"
    file = begin(path)
    file.write(0, numbered(SMALL)[:3])
    loaded = twinscope.load(path)
    assert (loaded.metadata["state"], loaded.metadata["traces_done"]) == ("running", 3)
    assert not loaded.complete
    np.testing.assert_array_equal(loaded["df"].values[3], numbered(SMALL)[0, 0])
    assert np.isnan(loaded["df"].values[:2]).all()
    copy = twinscope.load(loaded.save(tmp_path / "copy.h5"))
    np.testing.assert_array_equal(copy["df"], loaded["df"])
    assert not end_of(tmp_path / "copy.h5")["complete"]
    file.finish(JobState.ABORTED, "was aborted", ["w"])
    assert twinscope.load(path).metadata["error"] == "was aborted"
    assert end_of(path)["complete"] is False


def test_half_an_end_is_none(finished: Path) -> None:
    """A computer that loses its power can leave that."""
    with h5py.File(finished, "r+") as file:
        file["progress/end"][30:] = 0
    loaded = twinscope.load(finished)
    assert loaded.metadata["state"] == "running"
    np.testing.assert_array_equal(loaded["df"].values[3], numbered(SMALL)[0, 0])


def test_an_end_that_is_too_long_is_shortened_and_keeps_the_checksums(tmp_path: Path) -> None:
    path = tmp_path / "long.h5"
    file = begin(path)
    file.finish(JobState.FAILED, "🔬" * 9999, ["warning"] * 9999)
    end = end_of(path)
    assert end["error"] == "🔬" * 1000
    assert end["warnings"] == ["9999 warnings"]
    assert end["checksums"] == file.checksums


def test_spectra_at_thousands_of_positions_have_room_in_the_metadata(tmp_path: Path) -> None:
    """Attributes of HDF5 that are stored in the header of their object end at 64 KiB."""
    positions = [(x * 1e-10 / 3, y * 1e-10 / 7) for x in range(64) for y in range(64)]
    request = SpectroscopyRequest(
        swept="z", positions=positions, sweep=Sweep(start=1e-9, stop=5e-10, points=2), channels=NAMES
    )
    file = begin(tmp_path / "grid.h5", request)
    file.write(0, numbered(request))
    file.finish(JobState.DONE, None, [])
    loaded = twinscope.load(tmp_path / "grid.h5")
    assert loaded.request == request
    np.testing.assert_array_equal(loaded["current"], numbered(request)[:, 1])


@pytest.mark.parametrize(
    "request_",
    [
        PathRequest(positions=[(0, 0), (1e-9, 0), (2e-9, 0)], channels=NAMES, passes=2, separate=s)
        for s in (False, True)
    ],
    ids=["path", "points"],
)
def test_a_trace_of_a_path_is_a_row(tmp_path: Path, request_: PathRequest) -> None:
    file = begin(tmp_path / "path.h5", request_)
    for number, trace in enumerate(numbered(request_)):
        file.write(number, trace[None])
    file.finish(JobState.DONE, None, [])
    loaded = twinscope.load(tmp_path / "path.h5")
    np.testing.assert_array_equal(loaded["df"], numbered(request_)[:, 0])
    with h5py.File(tmp_path / "path.h5") as opened:
        assert opened["Measurement_000/Channel_000/df/df"].attrs["data_type"] == "SPECTRUM"


def test_no_file_is_written_over(finished: Path) -> None:
    content = finished.read_bytes()
    with pytest.raises(StoreError, match=r"cannot be made: .*File exists"):
        begin(finished)
    assert finished.read_bytes() == content


FULL_DISK = """
import pathlib, resource, signal, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_store import SMALL, begin, numbered
from twinscope.errors import StoreError
from twinscope.state import JobState
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = pathlib.Path(sys.argv[2])
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
def refused(action, *arguments):
    try:
        action(*arguments)
    except StoreError as exc:
        assert "is the disk full?" in str(exc), exc
        return True
    return False
for room in range(0, 200_000, 997):
    limit(room)
    path = folder / f"{room}.h5"
    if not refused(begin, path):
        break
    assert not path.exists(), path
assert 10_000 < room < 100_000, room
limit(resource.RLIM_INFINITY)
file = begin(folder / "good.h5")
file.write(0, numbered(SMALL)[:2])
limit(10)
assert refused(file.write, 2, numbered(SMALL)[2:])
limit(resource.RLIM_INFINITY)
file.finish(JobState.FAILED, "the disk is full", [])
file = begin(folder / "lost.h5")
limit(10)
assert refused(file.finish, JobState.DONE, None, [])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are a thing of POSIX")
def test_a_full_disk_at_any_moment_is_an_error_and_leaves_no_ruins(tmp_path: Path) -> None:
    """The size that files may have stands for the room on the disk; HDF5 alone would crash here."""
    subprocess.run([sys.executable, "-c", FULL_DISK, str(Path(__file__).parent), str(tmp_path)], check=True)
    good, lost = twinscope.load(tmp_path / "good.h5"), twinscope.load(tmp_path / "lost.h5")
    assert (good.metadata["state"], good.metadata["traces_done"]) == ("failed", 2)
    np.testing.assert_array_equal(good["df"].values[3], numbered(SMALL)[0, 0])
    assert lost.metadata["state"] == "running"
