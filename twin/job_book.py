"""The jobs that an instrument remembers."""

import threading
from collections import OrderedDict
from pathlib import Path

from twinscope.errors import InvalidRequestError, NotFoundError
from twinscope.jobs import Job
from twinscope.ledger import Ledger
from twinscope.record import Record
from twinscope.storage.store import load

# Finished acquisitions stay in memory up to this many bytes, and this many jobs; older ones are in their files.
_KEPT_BYTES = 2**31
_KEPT_JOBS = 500


class JobBook:
    """Jobs by their ids: the latest in memory, acquisitions from before in their files. Any thread may use it.

    Parameters
    ----------
    folder
        Where the files are.
    ledger
        Knows which file is whose.
    """

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self._folder = folder
        self._ledger = ledger
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._restored: Record | None = None
        self._lock = threading.Lock()
        self.latest: Record | None = None

    def add(self, job: Job) -> None:
        """Remember a job, and forget the oldest that are over when there are too many or their data are too large."""
        with self._lock:
            self._jobs[job.id] = job
            if isinstance(job, Record):
                self.latest = job
            sizes = {name: one.nbytes if isinstance(one, Record) else 0 for name, one in self._jobs.items()}
            for name in list(self._jobs)[:-1]:
                few = sum(sizes.values()) <= _KEPT_BYTES and len(sizes) <= _KEPT_JOBS
                if few or not self._jobs[name].state.is_final:
                    break
                del self._jobs[name], sizes[name]

    def all(self) -> list[Job]:
        """Return the jobs in memory, the latest last."""
        with self._lock:
            return list(self._jobs.values())

    def job(self, identifier: str) -> Job:
        """Return a job.

        Raises
        ------
        NotFoundError
            When there is none of this name.
        """
        if not isinstance(identifier, str):
            raise InvalidRequestError(f"the id is {identifier!r}: expected the text that names a job", name="id")
        with self._lock:
            if identifier in self._jobs:
                return self._jobs[identifier]
            restored = self._restored
        if restored is not None and restored.id == identifier:
            return restored
        file = self._ledger.file_of(identifier)
        if file is not None and file.exists():
            # A client pulls it piece by piece.
            self._restored = restored = Record.restored(load(file))
            return restored
        raise NotFoundError(
            f"there is no job {identifier!r} in memory or in the catalogue: files are in {self._folder.resolve()}"
        )

    def record(self, identifier: str) -> Record:
        """Return an acquisition; one that is no longer in memory is read from its file.

        Raises
        ------
        NotFoundError
            When there is none of this name.
        """
        job = self.job(identifier)
        if not isinstance(job, Record):
            raise NotFoundError(f"{identifier!r} is a {job.verb}: it has no data")
        return job
