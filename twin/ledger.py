"""What an instrument keeps on disk besides its data: the journal of all that was done, and the catalogue of files."""

import logging
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twinscope.errors import NotFoundError, OutcomeUnknownError, StoreError, TwinscopeError
from twinscope.record import Record
from twinscope.sessions import KEPT_SESSIONS, Identity, Role, Session
from twinscope.state import JobState
from twinscope.storage.catalogue import Catalogue
from twinscope.storage.journal import Journal, read
from twinscope.storage.store import remove_unfinished

log = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
# The journal of a new start begins in a new file when the last one has grown larger than this, in bytes.
_ROTATE_AT = 2**26
_CUT_SHORT = "the server ended without bringing the tip to safety: look where the tip is, then acknowledge this"


@dataclass
class Recovered:
    """What the journal tells of the time before this start.

    Attributes
    ----------
    sessions
        Sessions by their labels, with what they were answered.
    last_lease
        Greatest number of a lease.
    blocked
        Why nothing may move until an operator has looked.
    """

    sessions: dict[str, Session] = field(default_factory=dict)
    last_lease: int = 0
    blocked: str | None = None


class Ledger:
    """Journal and catalogue of one folder, used by one server at a time.

    Parameters
    ----------
    folder
        Where they are; None keeps nothing, for an instrument that lives and dies with its only client.

    Raises
    ------
    StoreError
        When they cannot be opened, or another server uses the folder.
    """

    def __init__(self, folder: Path | None) -> None:
        self.recovered = Recovered()
        self._journal: Journal | None = None
        self._catalogue: Catalogue | None = None
        if folder is None:
            return
        path = folder / JOURNAL
        if path.exists():
            self.recovered = recover(path)
        self._journal = Journal(path)
        if path.stat().st_size > _ROTATE_AT:
            self._journal = _continued(self._journal, self.recovered)
        # With the lock of the journal, nobody else is making files here.
        remove_unfinished(folder)
        self._catalogue = Catalogue(folder)

    def note(self, kind: str, *, durable: bool = False, **fields: Any) -> None:
        """Write an entry.

        Raises
        ------
        StoreError
            When it cannot be written: what it announces must not be done then.
        """
        if self._journal is not None:
            self._journal.append(kind, durable=durable, **_json(fields))

    def try_to_note(self, kind: str, *, durable: bool = False, **fields: Any) -> None:
        """Write an entry about something that has happened or must happen, whether it can be written or not."""
        try:
            self.note(kind, durable=durable, **fields)
        except StoreError as exc:
            log.error("the journal misses an entry %s %s: %s", kind, fields, exc)

    def begin(self, record: Record) -> None:
        """List an acquisition that begins; the catalogue can be made anew from the files, so nothing depends on it."""
        if self._catalogue is not None:
            try:
                self._catalogue.add(record.metadata)
            except TwinscopeError as exc:
                log.error("the catalogue misses %s: %s", record.id, exc)

    def end(self, record: Record) -> None:
        """List how an acquisition ended."""
        if self._catalogue is not None and record.state is not JobState.QUEUED:
            error = None if record.error is None else record.error.message
            try:
                self._catalogue.finish(
                    record.id,
                    state=record.state,
                    error=error,
                    warnings=record.warnings,
                    traces_done=record.traces_done,
                    checksums=record.checksums,
                )
            except TwinscopeError as exc:
                log.error("the catalogue misses the end of %s: %s", record.id, exc)

    def find(self, **criteria: Any) -> list[dict[str, Any]]:
        """Find acquisitions; see :meth:`Catalogue.find`."""
        return [] if self._catalogue is None else self._catalogue.find(**criteria)

    def file_of(self, identifier: str) -> Path | None:
        """Path of the file of an acquisition, or None when it is not listed."""
        if self._catalogue is None:
            return None
        try:
            return Path(self._catalogue.get(identifier)["file"])
        except NotFoundError:
            return None

    def close(self) -> None:
        """Close the files."""
        if self._journal is not None:
            self._journal.close()


def _json(value: Any) -> Any:
    """Return what JSON can hold: what it cannot, as NaN, the infinities, and whatever else a client sends, as text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _json(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [_json(element) for element in value]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return number if math.isfinite(number) else str(number)
    return repr(value)


def _continued(journal: Journal, recovered: Recovered) -> Journal:
    """Put a journal aside that has become long, and begin a new one with what must not be forgotten."""
    journal.close()
    aside = journal.path.with_name(f"journal-{datetime.now(UTC):%Y%m%d-%H%M%S}.jsonl")
    try:
        journal.path.rename(aside)
    except OSError as exc:
        raise StoreError(f"the journal {journal.path} cannot be put aside as {aside.name}: {exc}") from exc
    fresh = Journal(journal.path)
    fresh.append("continued", file=aside.name, last_lease=recovered.last_lease, blocked=recovered.blocked)
    return fresh


def recover(path: Path) -> Recovered:
    """Read what a journal tells of the time before.

    Raises
    ------
    StoreError
        When the file cannot be read.
    """
    recovered = Recovered()
    running = False
    for entry in read(path, strict=False):
        fields = entry.fields
        if entry.kind == "started":
            # A start without a stop before it: also when nobody has acknowledged that in the meantime.
            recovered.blocked = _CUT_SHORT if running else recovered.blocked
            running = True
        elif entry.kind == "stopped":
            running = False
        elif entry.kind == "continued":
            recovered.last_lease, recovered.blocked = fields["last_lease"], fields["blocked"]
        elif entry.kind == "blocked":
            recovered.blocked = fields["reason"]
        elif entry.kind == "acknowledged":
            recovered.blocked = None
        elif entry.kind == "lease":
            recovered.last_lease = max(recovered.last_lease, fields["number"])
        else:
            _recover_session(recovered.sessions, entry.kind, fields)
    if running:
        recovered.blocked = _CUT_SHORT
    _close_open_answers(recovered.sessions)
    return recovered


def _close_open_answers(sessions: Mapping[str, Session]) -> None:
    for session in sessions.values():
        for answer in session.answers.values():
            if not answer.done.is_set():
                answer.error = OutcomeUnknownError(
                    "the server was restarted while it carried this request out: look at the state, then decide"
                    " whether to repeat it"
                )
                answer.done.set()


def _recover_session(sessions: dict[str, Session], kind: str, fields: Mapping[str, Any]) -> None:
    label = str(fields.get("session"))
    if kind == "session":
        identity = Identity(fields["identity"], Role.parse(fields["role"]))
        sessions.setdefault(label, Session("", identity, fields["client"]))
        while len(sessions) > KEPT_SESSIONS:
            del sessions[next(iter(sessions))]
    elif kind == "request" and label in sessions:
        sessions[label].expect(fields["request_id"], fields["fingerprint"])
    elif kind == "answer" and label in sessions:
        answer = sessions[label].answers.get(fields["request_id"])
        if answer is not None:
            answer.result = fields.get("result")
            answer.error = TwinscopeError.from_dict(fields["error"]) if fields.get("error") else None
            answer.done.set()
