"""Files: one HDF5 file per acquisition, in the NSID layout of the Pycroscopy family, written trace by trace.

All structure is written first: every dataset is contiguous and filled with NaN, so that a trace is nothing but bytes
at a known place. The file can be read at any moment, by anyone, also after the writer was killed. (HDF5's own SWMR mode
would leave a file behind that plain readers refuse until it is repaired.)

Layout::

    /                                 attributes: twinscope (version), id, kind, created, metadata (JSON)
    /progress/traces_done             how many traces are there
    /progress/end                     JSON: state, error, warnings; empty until the end
    /Measurement_000/Channel_000/NAME/NAME    the data of the first channel
    /Measurement_000/Channel_000/NAME/x ...   its axes
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from twinscope._version import __version__
from twinscope.capabilities import Channel
from twinscope.errors import StoreError
from twinscope.requests import AcquisitionRequest, ScanRequest
from twinscope.results import Axis, Measurement, Scan, Spectrum, assemble, axes_of, recorded_name, request_of
from twinscope.state import AcquisitionState

if TYPE_CHECKING:
    from twinscope.record import Record

# Room for the closing JSON, which is written in place.
_END_BYTES = 16384
# HDF5 reports most failures of the disk as OSError, those of a flush or a close also as RuntimeError.
_HDF5_ERRORS = (OSError, RuntimeError)
# Viewers look for the version of the layout in this attribute.
_NSID_VERSION = "0.0.7"


class AcquisitionFile:
    """The file of an acquisition in progress.

    Notes
    -----
    It is written by one thread. Each :meth:`write` hands its bytes to the operating system before it returns, so they
    survive the death of this process; :meth:`finish` also waits for the disk.
    """

    def __init__(self, path: Path, request: AcquisitionRequest, channels: tuple[Channel, ...]) -> None:
        self._path = path
        self._request = request
        self._channels = channels
        self._file: h5py.File | None = None
        self._datasets: dict[str, h5py.Dataset] = {}

    @classmethod
    def create(cls, record: "Record") -> "AcquisitionFile":
        """Make the file that the record's metadata names.

        Raises
        ------
        StoreError
            When it cannot be made, or is there already.
        """
        file = cls(Path(record.metadata["file"]), record.request, record.channels)
        file._make(record.metadata)
        return file

    def write(self, first: int, traces: np.ndarray) -> None:
        """Write traces (n, channels, samples).

        Raises
        ------
        StoreError
            When the disk is full, for example.
        """
        assert self._file is not None
        try:
            for number, trace in enumerate(traces, start=first):
                for channel, values in zip(self._channels, trace, strict=True):
                    name, place = self._place(channel.name, number)
                    self._datasets[name][place] = values
            self._file["progress/traces_done"][()] = first + len(traces)
            self._file.flush()
        except _HDF5_ERRORS as exc:
            raise StoreError(f"{self._path} cannot be written: {exc}: is the disk full?") from exc

    def finish(self, state: AcquisitionState, error: str | None, warnings: list[str]) -> None:
        """Write how the acquisition ended, and close the file.

        Raises
        ------
        StoreError
            When that fails.
        """
        assert self._file is not None
        try:
            end = _end_json(state, error, warnings)
            self._file["progress/end"][: len(end)] = end
            self._file.close()
            with self._path.open("rb") as file:
                os.fsync(file.fileno())
        except _HDF5_ERRORS as exc:
            raise StoreError(f"{self._path} cannot be closed: {exc}") from exc
        finally:
            self._file = None

    def _make(self, metadata: Mapping[str, Any]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Without the lock others can read while we write; "x" never writes over a file.
            self._file = h5py.File(self._path, "x", locking=False)
            self._datasets = _write_structure(self._file, self._request, self._channels, metadata)
            self._file.flush()
        except _HDF5_ERRORS as exc:
            raise StoreError(f"{self._path} cannot be made: {exc}") from exc

    def _place(self, channel: str, number: int) -> tuple[str, tuple[int, ...]]:
        """Dataset and index of one trace of a channel."""
        request = self._request
        if not isinstance(request, ScanRequest):
            return channel, (number,)
        address = request.address(number)
        layer = () if request.heights is None else (address.layer,)
        return recorded_name(channel, address.direction), (*layer, address.row)


def save(measurement: Measurement, path: Path) -> Path:
    """Write a measurement to a file of the same layout; see :meth:`Measurement.save`."""
    if path.exists():
        raise StoreError(f"{path} exists already: choose another name")
    metadata = dict(measurement.metadata)
    channels = tuple(Channel(**channel) for channel in metadata["channels"])
    try:
        with h5py.File(path, "x", locking=False) as file:
            datasets = _write_structure(file, measurement.request, channels, metadata)
            for name, dataset in datasets.items():
                dataset[...] = measurement[name].values
            file["progress/traces_done"][()] = metadata.get("traces_done", measurement.request.trace_count)
            end = _end_json(AcquisitionState(metadata["state"]), metadata.get("error"), metadata.get("warnings", []))
            file["progress/end"][: len(end)] = end
    except OSError as exc:
        raise StoreError(f"{path} cannot be written: {exc}") from exc
    return path


def load(path: str | Path) -> Scan | Spectrum:
    """Read a file back, whether its acquisition was finished or not.

    Raises
    ------
    StoreError
        When there is no such file or it is none of ours.
    """
    path = Path(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            if "metadata" not in file.attrs or "progress" not in file:
                raise StoreError(f"{path} is an HDF5 file but not one of twinscope's: it has no /progress")
            metadata = json.loads(file.attrs["metadata"])
            metadata["traces_done"] = int(file["progress/traces_done"][()])
            closing = bytes(file["progress/end"][...]).rstrip(b"\0")
            interrupted: dict[str, Any] = {"state": "running", "error": None, "warnings": []}
            metadata |= json.loads(closing) if closing else interrupted
            request = request_of(metadata)
            channels = tuple(Channel(**channel) for channel in metadata["channels"])
            empty = np.full((request.trace_count, len(channels), request.trace_length), np.nan, np.float32)
            blank = assemble(request, channels, empty, metadata)
            for name, dataset in _datasets(file).items():
                blank[name].values[...] = dataset[...]
            return blank
    except OSError as exc:
        if isinstance(exc, StoreError):
            raise
        raise StoreError(f"{path} cannot be read: {exc}") from exc


def _end_json(state: AcquisitionState, error: str | None, warnings: list[str]) -> np.ndarray:
    text = json.dumps({"state": state.value, "error": error, "warnings": warnings})
    if len(text) > _END_BYTES:
        text = json.dumps({"state": state.value, "error": error, "warnings": [f"{len(warnings)} warnings"]})
    return np.frombuffer(text.encode(), np.uint8)


def _datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    found = {}
    for group in file["Measurement_000"].values():
        for name, inner in group.items():
            found[name] = inner[name]
    return found


def _write_structure(
    file: h5py.File, request: AcquisitionRequest, channels: tuple[Channel, ...], metadata: Mapping[str, Any]
) -> dict[str, h5py.Dataset]:
    """Write everything but the data; returns the datasets by the name of what they hold."""
    file.attrs.update(
        {
            "twinscope": __version__,
            "id": metadata["id"],
            "kind": request.kind,
            "created": metadata["created"],
            "metadata": json.dumps(dict(metadata)),
        }
    )
    progress = file.create_group("progress")
    progress["traces_done"] = np.int64(0)
    progress["end"] = np.zeros(_END_BYTES, np.uint8)
    measurement = file.create_group("Measurement_000")
    axes = axes_of(request)
    directions = request.directions if isinstance(request, ScanRequest) else ("forward",)
    recorded = [(recorded_name(c.name, d), c) for d in directions for c in channels]
    return {
        name: _write_channel(measurement.create_group(f"Channel_{index:03d}/{name}"), name, channel, axes, metadata)
        for index, (name, channel) in enumerate(recorded)
    }


def _write_channel(
    group: h5py.Group, name: str, channel: Channel, axes: tuple[Axis, ...], metadata: Mapping[str, Any]
) -> h5py.Dataset:
    shape = tuple(len(axis.values) for axis in axes)
    # Early allocation puts the NaNs on disk now; afterwards the file's structure never changes.
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.CONTIGUOUS)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_value(np.array(np.nan, "<f4"))
    space = h5py.h5s.create_simple(shape)
    dataset = h5py.Dataset(h5py.h5d.create(group.id, name.encode(), h5py.h5t.IEEE_F32LE, space, plist))
    instrument = metadata["instrument"]
    dataset.attrs.update(
        {
            "quantity": channel.quantity,
            "units": channel.unit,
            "data_type": {1: "SPECTRUM", 2: "IMAGE", 3: "IMAGE_STACK"}[len(shape)],
            "main_data_name": name,
            "modality": "AFM",
            "source": f"{instrument['driver']} {instrument['driver_version']}",
            "title": name,
            "machine_id": instrument["instrument"],
            "nsid_version": _NSID_VERSION,
            "pyNSID_version": _NSID_VERSION,
        }
    )
    for index, axis in enumerate(axes):
        scale = group.create_dataset(axis.name, data=np.asarray(axis.values, float))
        kind = "SPECTRAL" if axis.name == "position" else "SPATIAL"
        scale.attrs.update({"name": axis.name, "quantity": axis.quantity, "units": axis.unit, "dimension_type": kind})
        scale.make_scale(axis.name)
        dataset.dims[index].label = axis.name
        dataset.dims[index].attach_scale(scale)
    return dataset
