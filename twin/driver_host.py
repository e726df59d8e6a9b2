"""The process of a driver: it carries out what the server asks for, and brings the tip to safety when the server dies.

Two connections lead to the server, each carrying msgpack. *commands* is served by the main thread, one command after
the other: ``[command, fence, arguments]`` is answered with any number of ``["traces", first, shape, bytes]`` and
``["warning", text]``, and one ``["done", result]`` or ``["error", error]``. *control* is served by a thread of its own,
so that ``stop``, ``ping`` and ``end`` are heard while a command is being carried out.

While its driver may be connected to the instrument, the process holds the lock of a file: two drivers never command one
instrument, also not when a server was killed and the next one is quick.
"""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Mapping
from io import FileIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from twinscope._driver_line import LOOKING, ControlThread, receive, send
from twinscope.drivers import registry
from twinscope.errors import ConfigurationError, DriverError, TwinscopeError
from twinscope.guard import Guard
from twinscope.interlocks import Interlocks
from twinscope.requests import request_from_dict
from twinscope.storage import file_lock

log = logging.getLogger(__name__)

LOCK = "driver.lock"
"""Name of the file in the folder of the data."""

# Traces are measured for this long, in s, before the server is asked whether to go on.
_POLL_FOR = 0.02
# The process of a server that was killed has this long, in s, to withdraw the tip and to end.
_LOCK_TIMEOUT = 30.0


def main(
    commands: Connection,
    control: Connection,
    driver: str,
    options: Mapping[str, Any],
    interlocks: Mapping[str, Any],
    folder: str | None,
) -> None:
    """Run until the server says close, or is gone."""
    # Ctrl-C in a terminal, or the end of a service, reaches this process, too; the server decides what it means.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # What a driver prints belongs in the log: programs read what the server prints.
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
    thread = ControlThread(control)
    thread.start()
    try:
        guard = _guarded(driver, options, interlocks)
        send(commands, "done", guard.capabilities().to_dict())
    except TwinscopeError as exc:
        send(commands, "error", exc.to_dict())
        return
    thread.guard = guard
    _Host(commands, thread, guard, None if folder is None else Path(folder) / LOCK).run()


def _guarded(driver: str, options: Mapping[str, Any], interlocks: Mapping[str, Any]) -> Guard:
    try:
        return Guard(registry.create(driver, **options), Interlocks.from_dict(interlocks))
    except TwinscopeError:
        raise
    # A driver is foreign code; whatever it raises must reach the server.
    except Exception as exc:
        log.exception("the driver %s cannot be made", driver)
        raise ConfigurationError(
            f"the driver {driver!r} cannot be made with {', '.join(options) or 'no options'}:"
            f" {type(exc).__name__}: {exc}"
        ) from exc


class _ServerGoneError(Exception):
    """There is nobody to answer to."""


class _Host:
    """Carries out commands; also the sink of what is measured."""

    def __init__(self, commands: Connection, control: ControlThread, guard: Guard, lock: Path | None) -> None:
        self._commands = commands
        self._control = control
        self._guard = guard
        self._lock = lock
        self._held: FileIO | None = None
        self._open = False

    def run(self) -> None:
        try:
            while self._serve(*self._next()):
                pass
            # Nobody stops a driver that is closed.
            self._control.rest()
        except _ServerGoneError:
            log.warning("the server is gone: %sclosing the driver", "withdrawing the tip and " if self._open else "")
            self._leave()
        except BaseException:
            # Out of memory, for example.
            self._leave()
            raise

    def write(self, first: int, traces: np.ndarray) -> None:
        """Hand traces to the server."""
        values = np.ascontiguousarray(traces, "<f4")
        self._send("traces", first, np.shape(traces), values.tobytes())

    def warn(self, message: str) -> None:
        """Hand a sentence to the server."""
        self._send("warning", message)

    # ------------------------------------------------------------------ the server

    def _next(self) -> tuple[str, int | None, Mapping[str, Any]]:
        try:
            command, fence, arguments = receive(self._commands)
        except (EOFError, OSError) as exc:
            raise _ServerGoneError from exc
        # What a dead server has left in the pipe is not begun any more.
        if self._control.gone.is_set():
            raise _ServerGoneError
        self._control.begun += command not in LOOKING
        return command, fence, arguments

    def _send(self, *message: Any) -> None:
        try:
            send(self._commands, *message)
        except OSError as exc:
            raise _ServerGoneError from exc

    def _serve(self, command: str, fence: int | None, arguments: Mapping[str, Any]) -> bool:
        """Carry out one command and answer; False when it was to close."""
        try:
            self._send("done", self._carry_out(command, fence, arguments))
        except _ServerGoneError:
            raise
        except TwinscopeError as exc:
            self._report(exc)
        # Whatever else a driver raises must reach the server, its attempt to end this process included.
        except (Exception, SystemExit) as exc:
            log.exception("the driver failed")
            self._report(DriverError(f"{type(exc).__name__}: {exc}"))
        return command != "close"

    def _report(self, error: TwinscopeError) -> None:
        try:
            self._send("error", error.to_dict())
        except (TypeError, ValueError):
            # The details of an error can be anything.
            self._send("error", type(error)(error.message).to_dict())

    # ------------------------------------------------------------------ the driver

    def _carry_out(self, command: str, fence: int | None, arguments: Mapping[str, Any]) -> Any:
        if command == "open":
            return self._connect()
        if command == "truth":
            return self._guard.truth(**arguments)
        if command == "read":
            return self._guard.read().to_dict()
        if command == "poll":
            return self._poll()
        if command == "close":
            self._open = False
            return self._guard.close()
        if command == "start":
            if fence is None:
                raise DriverError("an acquisition was started without a lease")
            return self._guard.start(fence, request_from_dict(**arguments), self).to_dict()
        return self._guard.perform(fence, command, **arguments).to_dict()

    def _connect(self) -> dict[str, Any]:
        if self._lock is not None and self._held is None:
            try:
                self._held = file_lock.lock(self._lock, _LOCK_TIMEOUT)
            except OSError as exc:
                raise DriverError(f"the file {self._lock}, which keeps others out, cannot be locked: {exc}") from exc
            if self._held is None:
                raise DriverError(
                    f"another process commands the instrument, it has locked {self._lock} for {_LOCK_TIMEOUT:.0f} s:"
                    " end it, and look where the tip is"
                )
        reading = self._guard.open()
        self._open = True
        return reading.to_dict()

    def _poll(self) -> tuple[bool, dict[str, Any]]:
        deadline = time.monotonic() + _POLL_FOR
        while True:
            more, reading = self._guard.poll()
            if not more or time.monotonic() >= deadline:
                return more, reading.to_dict()

    def _leave(self) -> None:
        """Bring the tip to safety and let go of the instrument."""
        self._control.rest()
        try:
            if self._open:
                self._guard.perform(None, "withdraw")
        # Whatever fails, the driver is to be closed.
        except Exception:
            log.exception("the tip could not be withdrawn: look where it is")
        self._guard.close()
        log.warning("the driver is closed")
