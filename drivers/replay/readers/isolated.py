"""Files are read in a process of its own first where what reads them cannot be stopped.

The HDF5 library follows damaged lengths and addresses: over some files it runs for ever, or ends the process, and it
holds a lock that every other file needs. So another process reads such a file first, and only what it has read is read
here. It waits for further files for a few seconds, because starting it takes most of the time.
"""

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinscope.drivers.replay.readers.contents import damaged, file_size
from twinscope.errors import TwinscopeError

# Seconds that a file may take, besides those for its size: the process may have to be started on a busy computer.
_PATIENCE = 20.0
_BYTES_PER_SECOND = 1e7
# Seconds that the process waits for the next file.
_IDLE = 5.0
# Bytes of memory that the process may have, where there are such limits.
_MEMORY = 2**32
_PROGRAM = "from twinscope.drivers.replay.readers.isolated import serve; serve()"


def format_of(path: Path, format: str | None, options: Mapping[str, Any]) -> str:
    """Read a file in another process, and return the name of its format.

    Raises
    ------
    TwinscopeError
        The same that reading it here would raise.
    StoreError
        When the process did not survive the file, or took too long.
    """
    job = {"path": str(path.absolute()), "format": format, "options": dict(options)}
    answer = _READER.ask(json.dumps(job), _PATIENCE + file_size(path) / _BYTES_PER_SECOND)
    if answer is None:
        raise damaged(path, "the HDF5 library does not survive it, or does not come to an end")
    found = json.loads(answer)
    if "error" in found:
        raise TwinscopeError.from_dict(found["error"])
    return str(found["format"])


def serve() -> None:
    """Answer the jobs on the standard input, one on each line, until there are none for a while."""
    from twinscope.drivers.replay.readers.reading import read_directly

    _limit_memory()
    while True:
        idle = threading.Timer(_IDLE, os._exit, (0,))
        idle.daemon = True
        idle.start()
        line = sys.stdin.readline()
        idle.cancel()
        if not line:
            return
        job = json.loads(line)
        try:
            answer: dict[str, Any] = {"format": read_directly(Path(job["path"]), job["format"], job["options"]).format}
        except TwinscopeError as exc:
            answer = {"error": exc.to_dict()}
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


class _Process:
    """The process that reads files first, while there is one; it answers one question at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, job: str, patience: float) -> str | None:
        """Return the answer to a job; None when there was none in time."""
        with self._lock:
            waiting = self._process is not None
            answer, in_time = self._attempt(job, patience)
            if answer is None and waiting and in_time:
                # It may have ended because nobody asked, just when it was asked.
                answer, _ = self._attempt(job, patience)
            return answer

    def end(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _attempt(self, job: str, patience: float) -> tuple[str | None, bool]:
        """Return the answer, if there is one, and whether there was still time."""
        if self._process is None or self._process.poll() is not None:
            self.end()
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-P", "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        impatience = threading.Timer(patience, process.kill)
        impatience.start()
        try:
            process.stdin.write(f"{job}\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = ""
        finally:
            in_time = impatience.is_alive()
            impatience.cancel()
        if not answer:
            self.end()
        return answer or None, in_time


_READER = _Process()
atexit.register(_READER.end)
