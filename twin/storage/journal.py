"""The journal: who did what, when and with which lease, one line of JSON each, in a file that only grows.

A line is ``{"n": 7, "time": "2026-10-01T12:00:00.000+00:00", "kind": "move", ..., "check": "0123456789abcdef"}``.
Line n is entry n. The check is a hash of the line before it and of the check of the line above, so that a line that
was changed, taken out or put in is noticed. It guards against accidents and careless hands, not against forgers, who
can compute it too; that the last lines were taken away cannot be seen in the file alone.

When the process is killed or the disk is full in the middle of a line, the part of it that was written is moved to a
file of its own, ``JOURNAL.torn-N``, where N is the number of the entry that says so, of the kind "torn".
"""

import hashlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from twinscope.errors import StoreError
from twinscope.storage.file_lock import try_to_lock

# The check of the line above the first.
_SEED = "0" * 16
_RESERVED = ("n", "time", "kind", "check")
_LINE = re.compile(rb'(?P<content>\{.*),"check":"(?P<check>[0-9a-f]{16})"\}\n', re.DOTALL)
# How much is read at a time, from the end, to find the last line.
_BLOCK = 65536


@dataclass(frozen=True, slots=True)
class Entry:
    """What one line of a journal says.

    Attributes
    ----------
    number
        1 for the first.
    time
        When it was written: ISO 8601, UTC.
    kind
        What happened, in a word.
    fields
        The rest, as plain data.
    """

    number: int
    time: str
    kind: str
    fields: Mapping[str, Any]


class Journal:
    """A journal that is open for writing, by this process alone; it may be used from any thread.

    Parameters
    ----------
    path
        The file; it is made when there is none. Its folder must exist.

    Raises
    ------
    StoreError
        When another process has it open, its last line was altered, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._number, self._last_check, self._length = 0, _SEED, 0
        # Whether the file ends with a part of a line, which is to be cut off before the next one.
        self._torn = False
        try:
            self._file = _open(path)
        except OSError as exc:
            raise StoreError(f"the journal {path} cannot be opened: {exc}") from exc
        try:
            if not try_to_lock(self._file):
                raise StoreError(
                    f"another server uses the folder {path.parent}: it has {path.name} open; stop it, or choose another"
                    " folder"
                )
            self._continue()
        except OSError as exc:
            self._file.close()
            if isinstance(exc, StoreError):
                raise
            raise StoreError(f"the journal {path} cannot be continued: {exc}: is the disk full?") from exc

    def append(self, kind: str, *, durable: bool = True, **fields: Any) -> int:
        """Add an entry and return its number.

        Parameters
        ----------
        kind
            What happened, in a word.
        durable
            Whether to wait for the disk. Without, an entry survives the death of this process, but not that of the
            computer.
        fields
            Plain data: text, finite numbers, booleans, None, lists and mappings of these.

        Raises
        ------
        TypeError, ValueError
            When a field cannot be written as JSON or has a name of the journal's own; nothing was written.
        StoreError
            When the disk is full, for example; nothing of the entry stays in the file.
        """
        reserved = sorted(set(fields) & set(_RESERVED))
        if reserved:
            raise ValueError(f"the field {reserved[0]!r} is the journal's own: choose another name")
        with self._lock:
            if self._file.closed:
                raise StoreError(f"the journal {self.path} is closed: open it again")
            content = _content(self._number + 1, kind, fields)
            check = _check(self._last_check, content)
            try:
                self._write(content + _ending(check), durable)
            except OSError as exc:
                raise StoreError(f"the journal {self.path} cannot be written: {exc}: is the disk full?") from exc
            self._number, self._last_check = self._number + 1, check
            return self._number

    def close(self) -> None:
        """Close the file, so that another process may open it; a second call does nothing."""
        with self._lock:
            self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _continue(self) -> None:
        """Find the end of the last line, check that line, and put what follows it aside."""
        self._number, self._last_check, self._length = _last_line(self._file, self.path)
        self._file.seek(self._length)
        torn = self._file.read()
        if torn:
            aside = self.path.with_name(f"{self.path.name}.torn-{self._number + 1}")
            with aside.open("wb") as file:
                file.write(torn)
                file.flush()
                os.fsync(file.fileno())
            self._cut()
            self.append("torn", file=aside.name, bytes=len(torn))

    def _write(self, line: bytes, durable: bool) -> None:
        if self._torn:
            self._cut()
        try:
            self._torn = True
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
            if durable:
                os.fsync(self._file.fileno())
        except OSError:
            self._cut()
            raise
        self._torn = False
        self._length += len(line)

    def _cut(self) -> None:
        self._file.truncate(self._length)
        self._torn = False


def read(path: Path, *, strict: bool = True) -> Iterator[Entry]:
    """Read a journal, also while it is written; an unfinished last line is left out.

    Parameters
    ----------
    path
        The file.
    strict
        Whether a line that was changed, taken out or put in is an error. Without, all that can be read is.

    Raises
    ------
    StoreError
        When it cannot be read, or a line does not fit the one above; the message has the number of the line.
    """
    try:
        with path.open("rb") as file:
            check = _SEED
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    entry, check = _verified(line, check, strict)
                    if strict and entry.number != number:
                        raise ValueError(f"it is entry {entry.number}")
                except ValueError as exc:
                    if strict:
                        raise StoreError(f"line {number} of the journal {path} was altered: {exc}") from exc
                    continue
                yield entry
    except OSError as exc:
        if isinstance(exc, StoreError):
            raise
        raise StoreError(f"the journal {path} cannot be read: {exc}") from exc


def _last_line(file: FileIO, path: Path) -> tuple[int, str, int]:
    """Return number and check of the last whole line, and where it ends; only the end of the file is read."""
    start = size = file.seek(0, os.SEEK_END)
    tail = b""
    # The last whole line and the check of the one above: with the end of a third line, both are there.
    while start > 0 and tail.count(b"\n") < 3:
        step = min(max(_BLOCK, len(tail)), start)
        start -= step
        file.seek(start)
        tail = file.read(step) + tail
    *whole, torn = tail.split(b"\n")
    if not whole:
        return 0, _SEED, 0
    above = _SEED if len(whole) == 1 else whole[-2][-18:-2].decode(errors="replace")
    try:
        entry, check = _verified(whole[-1] + b"\n", above, strict=True)
    except ValueError as exc:
        raise StoreError(
            f"the last line of the journal {path} was altered: {exc}: move the file away to begin a new journal"
        ) from exc
    return entry.number, check, size - len(torn)


def _verified(line: bytes, above: str, strict: bool) -> tuple[Entry, str]:
    """Entry and check of a line; the reason when it is none, or does not fit the check above."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("it does not end with a check")
    check = match["check"].decode()
    if strict and check != _check(above, match["content"]):
        raise ValueError(f"its check is {check}, expected {_check(above, match['content'])}")
    fields = json.loads(match["content"] + b"}")
    if not {"n", "time", "kind"} <= fields.keys():
        raise ValueError("it has no number, time or kind")
    return Entry(fields.pop("n"), fields.pop("time"), fields.pop("kind"), fields), check


def _content(number: int, kind: str, fields: Mapping[str, Any]) -> bytes:
    """Return a line up to its check."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    try:
        text = json.dumps({"n": number, "time": time, "kind": kind, **fields}, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as exc:
        expected = "expected text, finite numbers, booleans, None, lists and mappings of these"
        raise type(exc)(f"the entry {kind!r} cannot be written: {exc}: {expected}") from exc
    return text[:-1].encode()


def _ending(check: str) -> bytes:
    return f',"check":"{check}"}}\n'.encode()


def _check(above: str, content: bytes) -> str:
    return hashlib.sha256(above.encode() + content).hexdigest()[:16]


def _open(path: Path) -> FileIO:
    new = not path.exists()
    # Unbuffered, so that what a write says it wrote is what the operating system has.
    file = FileIO(path, "a+")
    if new and sys.platform != "win32":
        # A new file can be lost until its folder, too, is on the disk.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return file
