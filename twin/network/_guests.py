"""Who is connected to a server: strangers, few and not for long, and those who have shown who they are."""

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from twinscope.errors import ServerUnreachableError
from twinscope.network._pyro import Connection

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT = 5.0
"""Seconds in which a new connection must have introduced itself."""

MOST_STRANGERS = 64
"""Most connections that have not introduced themselves yet."""

MOST_STRANGERS_OF_ONE = 32
"""Most of them from one machine."""

MOST_GUESTS = 256
"""Most connections that have. Each occupies a thread."""


@dataclass(frozen=True, slots=True)
class _Stranger:
    peer: str
    since: float = field(default_factory=time.monotonic)


class Guests:
    """The connections of a server. Any thread may use it.

    When there are too many strangers, the one that has hesitated longest has to go, so that a newcomer gets in however
    many of them there are.
    """

    def __init__(self) -> None:
        self._strangers: dict[Connection, _Stranger] = {}
        self._known: set[Connection] = set()
        self._lock = threading.Lock()

    def arrive(self, connection: Connection, peer: str) -> None:
        """Let in a stranger from the machine `peer`."""
        with self._lock:
            self._strangers[connection] = _Stranger(peer)
            counts = Counter(stranger.peer for stranger in self._strangers.values())
            if counts[peer] > MOST_STRANGERS_OF_ONE:
                self._dismiss(self._oldest(peer))
            elif len(self._strangers) > MOST_STRANGERS:
                crowd, _ = counts.most_common(1)[0]
                self._dismiss(self._oldest(crowd))

    def introduce(self, connection: Connection) -> None:
        """Note that a stranger has shown who it is.

        Raises
        ------
        ServerUnreachableError
            When there are too many already.
        """
        with self._lock:
            if len(self._known) >= MOST_GUESTS:
                raise ServerUnreachableError(
                    f"the server has {MOST_GUESTS} connections already, more than that it does not take: close some"
                )
            self._strangers.pop(connection, None)
            self._known.add(connection)

    def leave(self, connection: Connection) -> None:
        """Forget a connection."""
        with self._lock:
            self._strangers.pop(connection, None)
            self._known.discard(connection)

    def dismiss_hesitant(self) -> float | None:
        """Hang up on strangers that have taken too long; returns in how many s the next will have, if there are any."""
        with self._lock:
            overdue = time.monotonic() - HANDSHAKE_TIMEOUT
            for connection in [one for one, stranger in self._strangers.items() if stranger.since <= overdue]:
                self._dismiss(connection)
            # They are in the order of their arrival.
            first = next(iter(self._strangers.values()), None)
            return None if first is None else max(first.since - overdue, 0.01)

    def dismiss_all(self) -> None:
        """Hang up on everybody."""
        with self._lock:
            for connection in (*self._strangers, *self._known):
                connection.hang_up()

    def _oldest(self, peer: str) -> Connection:
        return next(connection for connection, stranger in self._strangers.items() if stranger.peer == peer)

    def _dismiss(self, connection: Connection) -> None:
        stranger = self._strangers.pop(connection)
        log.info("a connection from %s has not said who it is: it is closed", stranger.peer)
        connection.hang_up()
