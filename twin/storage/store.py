"""Files: one HDF5 file per acquisition, in the NSID layout of the Pycroscopy family, written trace by trace.

All structure is written first: every dataset is contiguous and filled with NaN, so that a trace is nothing but bytes
at a known place. The file can be read at any moment, by anyone, also after the writer was killed. (HDF5's own SWMR mode
would leave a file behind that plain readers refuse until it is repaired.)

Layout::

    /                                 attributes: twinscope (version), id, kind, created, metadata (JSON)
    /progress/traces_done             how many traces are there
    /progress/end                     JSON: state, error, warnings, complete, checksums; empty until the end
    /Measurement_000/Channel_000/NAME/NAME    the data of the first channel
    /Measurement_000/Channel_000/NAME/x ...   its axes

A file without an end is still being written, or its writer was killed; what it holds up to traces_done is good. The
checksums are those of the data as they are stored (SHA-256 of little-endian float32), by the name of the dataset.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from twinscope.capabilities import Channel
from twinscope.errors import StoreError
from twinscope.requests import AcquisitionRequest, ScanRequest
from twinscope.results import Measurement, Profile, Scan, Spectrum, assemble, recorded_name, request_of
from twinscope.state import JobState
from twinscope.storage._disk import Disk, new_hdf5
from twinscope.storage._layout import checksum, datasets_of, read_metadata, write_end, write_structure

if TYPE_CHECKING:
    from twinscope.record import Record

# HDF5 reports most failures of the disk as OSError, those of a flush or a close also as RuntimeError.
_HDF5_ERRORS = (OSError, RuntimeError)
# Ending of the name of a file that is being made.
_UNFINISHED = ".new"


class AcquisitionFile:
    """The file of an acquisition in progress.

    Parameters
    ----------
    path
        The file; it must not exist.
    request
        What was asked for.
    channels
        In the order of the request.
    metadata
        What is known at the start; it is written now and not changed later.

    Attributes
    ----------
    checksums
        Of the data, by the name of the dataset; empty until :meth:`finish`.

    Raises
    ------
    StoreError
        When the file cannot be made, or is there already; nothing is left of it.

    Notes
    -----
    It is written by one thread. Each :meth:`write` hands its bytes to the operating system before it returns, so they
    survive the death of this process; :meth:`finish` also waits for the disk.
    """

    def __init__(
        self, path: Path, request: AcquisitionRequest, channels: tuple[Channel, ...], metadata: Mapping[str, Any]
    ) -> None:
        self._path = path
        self._request = request
        self._channels = channels
        self.checksums: dict[str, str] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._disk = _made(path, request, channels, metadata)
        except FileExistsError as exc:
            raise StoreError(f"{path} cannot be made: {exc}") from exc
        except _HDF5_ERRORS as exc:
            raise StoreError(f"{path} cannot be made: {exc}: is the disk full?") from exc
        self._file = h5py.File(self._disk, "r+")
        self._datasets = datasets_of(self._file)

    @classmethod
    def create(cls, record: "Record") -> "AcquisitionFile":
        """Make the file that the record's metadata names."""
        return cls(Path(record.metadata["file"]), record.request, record.channels, record.metadata)

    def write(self, first: int, traces: np.ndarray) -> None:
        """Write traces (n, channels, samples).

        Raises
        ------
        StoreError
            When the disk is full, for example.
        """
        with self._checked("written"):
            for number, trace in enumerate(traces, start=first):
                for channel, values in zip(self._channels, trace, strict=True):
                    name, place = self._place(channel.name, number)
                    self._datasets[name][place] = values
            self._file.flush()
            # The number of traces is raised only when the operating system has them.
            self._disk.check()
            self._file["progress/traces_done"][()] = first + len(traces)
            self._file.flush()

    def finish(self, state: JobState, error: str | None, warnings: list[str]) -> None:
        """Write how the acquisition ended and the checksums of its data, and close the file.

        Raises
        ------
        StoreError
            When that fails.
        """
        with contextlib.closing(self._disk), self._checked("closed"):
            with self._file:
                self.checksums = {name: checksum(dataset) for name, dataset in self._datasets.items()}
                write_end(self._file, state.value, error, warnings, self.checksums)
            self._disk.sync()

    @contextlib.contextmanager
    def _checked(self, done: str) -> Iterator[None]:
        """Turn what fails within into a StoreError: the file cannot be `done`."""
        try:
            yield
            self._disk.check()
        except _HDF5_ERRORS as exc:
            raise StoreError(f"{self._path} cannot be {done}: {exc}: is the disk full?") from exc

    def _place(self, channel: str, number: int) -> tuple[str, tuple[int, ...]]:
        """Dataset and index of one trace of a channel."""
        request = self._request
        if not isinstance(request, ScanRequest):
            return channel, (number,)
        address = request.address(number)
        layer = () if request.heights is None else (address.layer,)
        return recorded_name(channel, address.direction), (*layer, address.row)


def remove_unfinished(folder: Path) -> None:
    """Remove what a process has left that was killed while it made a file; nobody may be making one.

    Raises
    ------
    StoreError
        When that fails.
    """
    try:
        for path in folder.glob(f"*.h5{_UNFINISHED}"):
            path.unlink(missing_ok=True)
    except OSError as exc:
        raise StoreError(f"unfinished files in {folder} cannot be removed: {exc}") from exc


def _made(path: Path, request: AcquisitionRequest, channels: tuple[Channel, ...], metadata: Mapping[str, Any]) -> Disk:
    """Make a file with all its structure, and open it; it gets its name when it is whole, whenever this is killed."""
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    unfinished = path.with_name(f"{path.name}{_UNFINISHED}")
    with new_hdf5(unfinished) as file:
        write_structure(file, request, channels, metadata)
    unfinished.rename(path)
    return Disk(path, "r+")


def save(measurement: Measurement, path: Path) -> Path:
    """Write a measurement to a file of the same layout; see :meth:`Measurement.save`."""
    metadata = dict(measurement.metadata)
    channels = tuple(Channel(**channel) for channel in metadata["channels"])
    try:
        with new_hdf5(path) as file:
            datasets = write_structure(file, measurement.request, channels, metadata)
            for name, dataset in datasets.items():
                dataset[...] = measurement[name].values
            file["progress/traces_done"][()] = metadata.get("traces_done", measurement.request.trace_count)
            checksums = {name: checksum(dataset) for name, dataset in datasets.items()}
            write_end(file, metadata["state"], metadata.get("error"), metadata.get("warnings", []), checksums)
    except FileExistsError as exc:
        raise StoreError(f"{path} exists already: choose another name") from exc
    except OSError as exc:
        raise StoreError(f"{path} cannot be written: {exc}: is the disk full?") from exc
    return path


def load(path: str | Path, *, verify: bool = True) -> Scan | Profile | Spectrum:
    """Read a file back, whether its acquisition was finished or not.

    Parameters
    ----------
    path
        The file.
    verify
        Whether data that differ from their checksum are an error. Files without an end have no checksums.

    Raises
    ------
    StoreError
        When there is no such file, it is none of ours, or its data were altered.
    """
    path = Path(path)
    with _reading(path) as file:
        metadata, checksums = read_metadata(file)
        request = request_of(metadata)
        channels = tuple(Channel(**channel) for channel in metadata["channels"])
        empty = np.full((request.trace_count, len(channels), request.trace_length), np.nan, np.float32)
        blank = assemble(request, channels, empty, metadata)
        for name, dataset in datasets_of(file).items():
            if verify and name in checksums and checksum(dataset) != checksums[name]:
                raise StoreError(
                    f"{path} is damaged: the data of channel {name!r} are not those that were stored (their checksum"
                    " differs); load(..., verify=False) reads them all the same",
                    channel=name,
                )
            blank[name].values[...] = dataset[...]
        return blank


def describe(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the metadata of a file and the checksums of its datasets, but not the data.

    The metadata have the state "running" when the file has no end; there are no checksums then.

    Raises
    ------
    StoreError
        When there is no such file or it is none of ours.
    """
    with _reading(path) as file:
        return read_metadata(file)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r", locking=False) as file:
            if "metadata" not in file.attrs or "progress/end" not in file:
                raise StoreError(f"{path} is an HDF5 file but not one of twinscope's: it has no /progress")
            yield file
    # Besides, a damaged file can lack anything or hold anything.
    except (*_HDF5_ERRORS, KeyError, ValueError) as exc:
        if isinstance(exc, StoreError):
            raise
        raise StoreError(f"{path} cannot be read: {exc}") from exc
