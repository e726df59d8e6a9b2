"""The connections between a server and the process of its driver, and the thread that hears what cannot wait."""

import faulthandler
import logging
import os
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

import msgpack

from twinscope.guard import Guard

log = logging.getLogger(__name__)

# How often the process shows to itself that it is not stuck, in s, and after how long it ends itself. The server, if
# there is one, is quicker.
_BEAT = 1.0
_STUCK = 45.0
# When the server is gone, the driver is stopped again and again until it stands still, but not for longer than this; a
# stop that comes before the driver has begun is lost.
_STOP_AGAIN = 0.05
_STOP_TIMEOUT = 10.0
# The last stop may still be at work when the driver stands still.
_LAST_STOP = 2.0
_STUCK_EXIT_CODE = 4


def send(connection: Connection, *message: Any) -> None:
    """Send a message.

    Raises
    ------
    OSError
        When the other side is gone.
    TypeError, ValueError
        When it is not plain data, or too large; nothing was sent.
    """
    connection.send_bytes(msgpack.packb(message))


def receive(connection: Connection) -> Any:
    """Wait for a message.

    Raises
    ------
    EOFError, OSError
        When the other side is gone.
    """
    return msgpack.unpackb(connection.recv_bytes())


LOOKING = ("read", "truth", "poll")
"""Commands that begin nothing. The others are counted on both sides, so that a late stop hits nothing new."""


class ControlThread:
    """In the driver's process: stops the driver when the server says so, or is gone, and ends a process that hangs.

    Parameters
    ----------
    connection
        Where the server says so.

    Attributes
    ----------
    guard
        The driver, as soon as there is one.
    begun
        How many commands have been begun.
    gone
        Set when the server is gone, or is done with this process.
    """

    def __init__(self, connection: Connection) -> None:
        self.guard: Guard | None = None
        self.begun = 0
        self.gone = threading.Event()
        self._connection = connection
        self._resting = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def rest(self) -> None:
        """Say that no command is being carried out any more; none is stopped when this has returned."""
        self._resting.set()
        self._thread.join(_LAST_STOP)

    def _run(self) -> None:
        try:
            while self._hear():
                pass
        except (EOFError, OSError):
            log.debug("the control connection has ended")
        self.gone.set()
        # The server sees by this that nobody hears it any more.
        self._connection.close()
        # A driver that is only being made has not touched anything.
        deadline = time.monotonic() + (0.0 if self.guard is None else _STOP_TIMEOUT)
        while not self._resting.wait(_STOP_AGAIN):
            self._stop()
            if time.monotonic() > deadline:
                log.error("the driver did not come to a stand in time: ending its process")
                # Its main thread is in the driver and will not come back.
                os._exit(_STUCK_EXIT_CODE)

    def _hear(self) -> bool:
        """Wait a moment for a message; False when it was the last."""
        if sys.stderr is not None:
            # This needs no interpreter, which foreign code can hold for ever.
            faulthandler.dump_traceback_later(_STUCK, exit=True)
        if not self._connection.poll(_BEAT):
            return True
        message, begun = receive(self._connection)
        # What the server has begun since it said so is something else.
        if message == "stop" and begun >= self.begun:
            self._stop()
        send(self._connection, "pong")
        return bool(message != "end")

    def _stop(self) -> None:
        try:
            if self.guard is not None:
                self.guard.stop()
        # The next stop may succeed, and pings must be answered.
        except Exception:
            log.exception("the driver could not be stopped")
