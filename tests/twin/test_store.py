import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import twinscope
from twinscope import ScanFrame, Sweep
from twinscope.errors import InvalidRequestError, StoreError

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
    from twinscope.store import AcquisitionFile

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
from twinscope.store import AcquisitionFile
from twinscope.record import Record
request = ScanRequest(frame=ScanFrame(size=(1e-9, 1e-9)), pixels=(64, 100000), channels=("a",))
channels = (Channel("a", "m", "a"),)
metadata = {"file": sys.argv[1], "instrument": {"driver": "d", "driver_version": "0", "instrument": "i"}}
record = Record("id", request, channels, metadata)
file = AcquisitionFile.create(record)
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
