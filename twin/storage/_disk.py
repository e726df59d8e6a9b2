"""A file that HDF5 writes through, because HDF5 itself does not survive a full disk."""

import contextlib
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import h5py


class Disk(FileIO):
    """A file for h5py's ``fileobj`` driver, whose failures are kept until they are asked for.

    A write that fails inside the HDF5 library leaves its caches in a state in which it cannot close the file any more;
    what it does then crashes the whole process (HDF5 2.0, h5py 3.16). So HDF5 is told that all went well, and
    :meth:`check` tells us. It is unbuffered: what was written survives the death of this process.

    Parameters
    ----------
    path
        The file.
    mode
        "x+" for a new one, "r+" for one that exists.

    Raises
    ------
    OSError
        When it cannot be made or opened.
    """

    def __init__(self, path: Path, mode: str = "x+") -> None:
        super().__init__(path, mode)
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first failure since the last call.

        Raises
        ------
        OSError
            When a write failed.
        """
        error, self._error = self._error, None
        if error is not None:
            raise error

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        os.fsync(self.fileno())

    def readinto(self, buffer: Any, /) -> int:
        """Read; of a file that could not be written, the rest is zeros."""
        done = super().readinto(buffer)
        buffer[done:] = bytes(len(buffer) - done)
        return len(buffer)

    def write(self, data: Any, /) -> int:
        """Write all of it, or remember why not."""
        try:
            done = 0
            while done < len(data):
                done += super().write(data[done:])
        except OSError as exc:
            self._error = self._error or exc
        return len(data)

    def truncate(self, size: int | None = None, /) -> int:
        """Make the file longer or shorter, or remember why not."""
        try:
            return super().truncate(size)
        except OSError as exc:
            self._error = self._error or exc
            return self.tell() if size is None else size


@contextlib.contextmanager
def new_hdf5(path: Path) -> Iterator[h5py.File]:
    """Make an HDF5 file and close it at the end; when anything fails, nothing is left of it.

    Raises
    ------
    OSError
        When it cannot be written, or exists.
    """
    disk = Disk(path)
    with contextlib.ExitStack() as undo:
        undo.callback(path.unlink, missing_ok=True)
        with contextlib.closing(disk):
            with h5py.File(disk, "w") as file:
                yield file
            disk.check()
        undo.pop_all()
