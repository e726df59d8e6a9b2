"""The catalogue: which acquisitions there are, and how to find them.

It is one SQLite file beside the acquisitions and is derived from them: what it says can be read from their files again
at any time. When it is missing, damaged or of an older twinscope it is made anew, and when it is opened, acquisitions
that it does not know yet or that never ended are looked up in their files. So neither a killed server nor a full disk
can do lasting harm to it.
"""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from twinscope import _checks
from twinscope.errors import NotFoundError, StoreError
from twinscope.state import JobState
from twinscope.storage._criteria import conditions
from twinscope.storage._table import TABLE, VERSION, insert, plain, row_of, update
from twinscope.storage.store import describe

log = logging.getLogger(__name__)

NAME = "catalogue.sqlite"
"""Name of the file in the folder of the data."""

INTERRUPTED = "interrupted"
"""State of an acquisition whose server died before it ended."""

_FINAL = {INTERRUPTED, *(state.value for state in JobState if state.is_final)}
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Catalogue:
    """The catalogue of a folder. It may be used from any thread, and by one server at a time.

    Parameters
    ----------
    folder
        Where the acquisitions are.

    Raises
    ------
    StoreError
        When it can neither be opened nor made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        reason = self._unusable()
        if reason is None:
            with self._database() as database:
                self._look_up(database)
        else:
            # A new folder needs no warning.
            if any(folder.glob("*.h5")) or (folder / NAME).exists():
                log.warning("the catalogue %s is made anew: %s", folder / NAME, reason)
            self.rebuild()

    def rebuild(self) -> None:
        """Make it anew from the files of the folder; files that are none of ours are left out.

        Raises
        ------
        StoreError
            When the disk is full, for example.
        """
        for suffix in ("", "-journal"):
            try:
                (self._folder / f"{NAME}{suffix}").unlink(missing_ok=True)
            except OSError as exc:
                raise StoreError(f"the old catalogue {self._folder / NAME} cannot be removed: {exc}") from exc
        # In one transaction: a catalogue that is there is whole.
        with self._database() as database:
            database.execute(TABLE)
            database.execute("CREATE INDEX by_time ON acquisitions (created)")
            self._look_up(database)
            database.execute(f"PRAGMA user_version = {VERSION}")

    def add(self, metadata: Mapping[str, Any]) -> None:
        """Add an acquisition that begins.

        Parameters
        ----------
        metadata
            As they are stored in its file.

        Raises
        ------
        StoreError
            When it is there already, or the disk is full, for example.
        """
        with self._database() as database:
            if database.execute("SELECT 1 FROM acquisitions WHERE id = ?", (metadata["id"],)).fetchone():
                raise StoreError(f"the acquisition {metadata['id']!r} is in the catalogue of {self._folder} already")
            insert(database, row_of(metadata, JobState.RUNNING.value, {}))

    def finish(
        self,
        id: str,
        *,
        state: str,
        error: str | None,
        warnings: Sequence[str],
        traces_done: int,
        checksums: Mapping[str, str],
    ) -> None:
        """Note how an acquisition ended.

        Parameters
        ----------
        id
            Of the acquisition.
        state, error, warnings, traces_done
            As in its metadata.
        checksums
            Of its data, by the name of the dataset; see :mod:`twinscope.storage.store`.

        Raises
        ------
        NotFoundError
            When there is no such acquisition.
        StoreError
            When the disk is full, for example.
        """
        ending = {"state": state, "error": error, "warnings": list(warnings), "traces_done": traces_done}
        with self._database() as database:
            if not update(database, id, ending, checksums):
                raise NotFoundError(f"there is no acquisition {id!r} in the catalogue of {self._folder}: add it first")

    def get(self, id: str) -> dict[str, Any]:
        """Return what is known of an acquisition, as plain data like that of :meth:`find`.

        Raises
        ------
        NotFoundError
            When there is none of this name.
        """
        with self._database() as database:
            row = database.execute("SELECT * FROM acquisitions WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise NotFoundError(f"there is no acquisition {id!r} in the catalogue of {self._folder}")
        return plain(row, self._folder)

    def find(self, *, limit: int = 100, offset: int = 0, **criteria: Any) -> list[dict[str, Any]]:
        """Find acquisitions that meet all criteria, the newest first.

        Parameters
        ----------
        limit, offset
            How many at most, and how many of the newest to leave out.
        **criteria
            Each may be None, for any:

            ``kind``, ``state``, ``operator``
                Exactly this text.
            ``channel``
                Name of a channel that was recorded.
            ``purpose``
                A part of it; capitals and small letters are the same.
            ``since``, ``until``
                When it was begun, in ISO 8601; without a time zone, in UTC. `until` itself is left out.
            ``within``
                (x0, y0, x1, y1) in m, on the sample: what was looked at overlaps this rectangle.

        Returns
        -------
        list of dict
            Plain data: ``id``, ``kind``, ``created``, ``operator``, ``purpose``, ``instrument``, ``driver``,
            ``channels`` (names), ``request``, ``x`` and ``y`` (middle, m), ``box`` (x0, y0, x1, y1 in m), ``file``,
            ``state``, ``error``, ``warnings``, ``traces_done`` and ``checksums``.

        Raises
        ------
        InvalidRequestError
            When a criterion is unknown or makes no sense.
        """
        clause, parameters = conditions(criteria)
        limit = _checks.count("limit", limit)
        if offset != 0:
            offset = _checks.count("offset", offset)
        query = f"SELECT * FROM acquisitions WHERE {clause} ORDER BY created DESC, id DESC LIMIT ? OFFSET ?"  # noqa: S608
        with self._database() as database:
            rows = database.execute(query, (*parameters, limit, offset)).fetchall()
        return [plain(row, self._folder) for row in rows]

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction; SQLite undoes what was not finished."""
        try:
            with self._lock, contextlib.closing(sqlite3.connect(self._folder / NAME, isolation_level=None)) as database:
                database.row_factory = sqlite3.Row
                database.execute("BEGIN")
                yield database
                database.execute("COMMIT")
        except sqlite3.Error as exc:
            raise StoreError(
                f"the catalogue {self._folder / NAME} cannot be used: {exc}: is the disk full? When it is damaged, it"
                " is made anew at the next start"
            ) from exc

    def _unusable(self) -> str | None:
        """Tell why the file cannot be used as it is."""
        path = self._folder / NAME
        if not path.exists():
            return "there is none"
        try:
            with contextlib.closing(sqlite3.connect(path)) as database:
                version = database.execute("PRAGMA user_version").fetchone()[0]
                found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as exc:
            if exc.sqlite_errorcode in _DAMAGED:
                return str(exc)
            raise StoreError(f"the catalogue {path} cannot be opened: {exc}") from exc
        if version != VERSION:
            return f"its version is {version}, expected {VERSION}"
        return None if found == "ok" else str(found)

    def _look_up(self, database: sqlite3.Connection) -> None:
        """Take from the files what the catalogue does not know."""
        rows = database.execute("SELECT id, file, state FROM acquisitions").fetchall()
        for row in rows:
            if row["state"] not in _FINAL:
                self._correct(database, row["id"], self._folder / row["file"])
        known = {row["file"] for row in rows}
        for path in sorted(self._folder.glob("*.h5")):
            if path.name not in known:
                self._take(database, path)

    def _correct(self, database: sqlite3.Connection, id: str, path: Path) -> None:
        try:
            metadata, checksums = describe(path)
        except StoreError as exc:
            metadata, checksums = {"error": exc.message, "warnings": [], "traces_done": 0}, {}
        ending = {name: metadata[name] for name in ("error", "warnings", "traces_done")}
        update(database, id, ending | {"state": _ended(metadata.get("state"))}, checksums)

    def _take(self, database: sqlite3.Connection, path: Path) -> None:
        try:
            metadata, checksums = describe(path)
            row = row_of(metadata | {"file": path.name}, _ended(metadata["state"]), checksums)
        # A foreign file can hold anything.
        except (StoreError, ValueError, KeyError, TypeError) as exc:
            log.warning("%s is not in the catalogue: %s", path, exc)
            return
        # Of a file and its copies, the first is listed.
        insert(database, row, "OR IGNORE")


def _ended(state: str | None) -> str:
    return state if state in _FINAL else INTERRUPTED
