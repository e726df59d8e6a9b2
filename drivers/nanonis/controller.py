"""A Nanonis controller: one connection for what is done, and one to stop it."""

import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twinscope.drivers.nanonis.connection import Connection, LostError, RefusedError
from twinscope.drivers.nanonis.options import NanonisOptions
from twinscope.errors import DriverError
from twinscope.nanonis_protocol import ErrorDialect

log = logging.getLogger(__name__)

# A driver stops within 200 ms.
_STOP_TIME = 0.15
_REDIAL = 0.1

Stop = tuple[str, Mapping[str, Any]]
"""A command that ends something, and its arguments."""

STOP_MOVE: Stop = ("FolMe.Stop", {})
STOP_SCAN: Stop = ("Scan.Action", {"scan_action": 1, "scan_direction": 1})

# Whoever began it: a driver that has died, or somebody at the controller.
_ANYTHING = (STOP_SCAN, STOP_MOVE)


class Controller:
    """Carries out commands on the first connection, and ends them on the second.

    Parameters
    ----------
    options
        Where the controller is.

    Attributes
    ----------
    interrupt
        Set when a stop was asked for.
    """

    def __init__(self, options: NanonisOptions) -> None:
        self.interrupt = threading.Event()
        self._options = options
        self._main: Connection | None = None
        self._second: Connection | None = None
        self._stops: tuple[Stop, ...] = _ANYTHING
        self._release = 0

    # ------------------------------------------------------------------ connections

    @property
    def connected(self) -> bool:
        """Whether both connections are there."""
        return all(one is not None and not one.lost for one in (self._main, self._second))

    @property
    def release(self) -> int:
        """Release number of the real-time engine, 0 when the controller does not tell."""
        return self._release

    def connect(self) -> None:
        """Connect anew unless both connections are there.

        Raises
        ------
        LostError
            When there are not two ports that answer.
        """
        if self.connected:
            return
        self.disconnect()
        try:
            self._main = self._dial(self._options.timeout)
            self._second = self._dial(self._options.timeout)
        except DriverError:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        """Let go of the controller."""
        for connection in (self._main, self._second):
            if connection is not None:
                connection.close()
        self._main = self._second = None

    def _dial(self, timeout: float) -> Connection:
        """Connect to a port that answers, within some time, in s: one that has a client already does not."""
        end = time.monotonic() + timeout
        ports = [port for port in self._options.ports if self._main is None or port != self._main.port]
        while True:
            reasons = []
            for port in ports:
                try:
                    return self._connect_to(port, timeout / len(ports))
                except LostError as exc:
                    reasons.append(exc.message)
            if time.monotonic() + _REDIAL > end:
                raise LostError(
                    f"no free port of a Nanonis controller was found: {'; '.join(reasons)}; a port takes one client: is"
                    " the TCP programming interface on, and do other programs hold its ports?"
                )
            # A controller may not have noticed yet that the client before has gone.
            time.sleep(_REDIAL)

    def _connect_to(self, port: int, within: float) -> Connection:
        options = self._options
        connection = Connection(
            options.host,
            port,
            timeout=options.timeout,
            dialect=None if options.error_dialect == "auto" else ErrorDialect(options.error_dialect),
            interrupt=self.interrupt,
            within=within,
        )
        try:
            self._release = connection.call("Util.VersionGet", within=within)["rt_engine_release"]
        except RefusedError:
            log.info("the Nanonis controller does not tell its version")
        return connection

    # ------------------------------------------------------------------ commands

    def begin(self) -> None:
        """Begin something new: no stop is asked for yet."""
        self.interrupt.clear()

    def call(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """Carry out a command, see :meth:`Connection.call`; never twice.

        Raises
        ------
        DriverError
            When the driver is not open, or as :meth:`Connection.call` does.
        """
        if self._main is None:
            raise DriverError("the driver of the Nanonis controller is closed: open it")
        return self._main.call(name, **arguments)

    def attempt(self, name: str, /, **arguments: Any) -> dict[str, Any] | None:
        """Ask for something that not every controller has; None when this one refuses."""
        try:
            return self.call(name, **arguments)
        except RefusedError as exc:
            log.info("%s", exc)
            return None

    def number(self, name: str, result: str, /, **arguments: Any) -> float:
        """Ask for a number, one of the results of a command.

        Raises
        ------
        DriverError
            When it is not finite, or as :meth:`call` does.
        """
        value = float(self.call(name, **arguments)[result])
        if not math.isfinite(value):
            raise DriverError(f"the Nanonis controller tells that {result} is {value}: expected a finite number")
        return value

    def values(self, indexes: Sequence[int], *, newest: bool = False) -> np.ndarray:
        """Return the present values of signals, by their numbers; the newest ones are waited for.

        Raises
        ------
        DriverError
            When there is another number of values, or as :meth:`call` does.
        """
        told = self.call("Signals.ValsGet", signals_indexes=indexes, wait_for_newest_data=int(newest))
        values: np.ndarray = told["signals_values"]
        if len(values) != len(indexes):
            raise DriverError(f"the Nanonis controller gives {len(values)} values of {len(indexes)} signals")
        return values

    def carry_out(self, name: str, stop: Stop, /, **arguments: Any) -> dict[str, Any] | None:
        """Carry out a command that takes its time, and is ended by another one.

        Returns
        -------
        dict or None
            Its results; None when it was stopped: controllers answer to that with an error or with empty results.
        """
        before = self._stops
        self._stops = (stop,)
        try:
            if self.interrupt.is_set():
                return None
            results = self.call(name, **arguments)
        except RefusedError:
            if not self.interrupt.is_set():
                raise
            return None
        finally:
            self._stops = before
        return None if self.interrupt.is_set() else results

    def stop_by(self, *stops: Stop) -> None:
        """From now on, a stop is sent to the controller as these commands; without any, it ends scans and moves."""
        self._stops = stops or _ANYTHING

    def stop(self) -> None:
        """Stop what is in progress; from any thread. What fails is logged: who waits for the end will notice."""
        self.interrupt.set()
        end = time.monotonic() + _STOP_TIME
        # A driver that is closed has nothing in progress.
        for name, arguments in self._stops if self._main is not None else ():
            try:
                self._send_stop(end, name, arguments)
            except DriverError as exc:
                log.error("the Nanonis controller was told to stop by %s, in vain: %s", name, exc)

    def _send_stop(self, end: float, name: str, arguments: Mapping[str, Any]) -> None:
        second = self._second
        if second is None or second.lost:
            second = self._second = self._dial(max(end - time.monotonic(), 0.01))
        second.call(name, within=max(end - time.monotonic(), 0.01), **arguments)
