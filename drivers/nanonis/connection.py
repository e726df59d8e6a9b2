"""One connection to a Nanonis controller: a request, a response, one after the other, and never a long wait."""

import logging
import math
import socket
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from twinscope.errors import DriverError, NanonisProtocolError
from twinscope.nanonis_protocol import (
    COMMANDS,
    HEADER_SIZE,
    Command,
    ErrorDialect,
    decode_error_block,
    decode_response_header,
    encode_request,
)

log = logging.getLogger(__name__)

# A wait is cut into pieces of this, in s, so that a stop is noticed.
_SLICE = 0.1
_RECEIVED_AT_ONCE = 2**20
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class RefusedError(DriverError):
    """The controller has understood a command and does not carry it out; the connection is as good as before."""


class LostError(DriverError):
    """The connection is lost: nobody knows whether the last command was carried out."""


class Connection:
    """A connection to one port of a controller. Any thread may use it; commands wait for each other.

    Parameters
    ----------
    host, port
        Where the controller listens.
    timeout
        It answers within this time, in s.
    dialect
        Of the error block; None to see it from its length.
    interrupt
        Set when a stop was asked for: what takes long is given `timeout` from then on.
    within
        It takes the connection within this time, in s.

    Raises
    ------
    LostError
        When there is nobody.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float,
        dialect: ErrorDialect | None,
        interrupt: threading.Event,
        within: float,
    ) -> None:
        self.port = port
        self._name = f"{host}:{port}"
        self._timeout = timeout
        self._dialects = tuple(ErrorDialect) if dialect is None else (dialect,)
        self._interrupt = interrupt
        self._lock = threading.Lock()
        try:
            self._socket: socket.socket | None = socket.create_connection((host, port), within)
        except OSError as exc:
            raise LostError(f"there is no Nanonis controller at {self._name}: {exc}") from exc
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def lost(self) -> bool:
        """Whether it cannot be used any more."""
        return self._socket is None

    def close(self) -> None:
        """Close it; a second time does nothing."""
        connected, self._socket = self._socket, None
        if connected is not None:
            connected.close()

    def call(
        self,
        name: str,
        /,
        *,
        patience: float = 0.0,
        within: float | None = None,
        told: Mapping[str, Any] = _NOTHING,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Carry out a command and return its results.

        Parameters
        ----------
        name
            Of the command.
        patience
            How much longer than `timeout` the command may take, in s, until a stop is asked for.
        within
            Another `timeout` for this once.
        told
            Arguments that go back as the controller has told them: an infinite slew rate, for example.
        arguments
            Of the command; only finite numbers are sent.

        Returns
        -------
        dict
            Results by name. Numbers of 32 bits are the shortest decimals that they stand for: 0.1, not
            0.10000000149.

        Raises
        ------
        RefusedError
            When the controller says that it does not do that.
        LostError
            When there is no answer in time, or none that can be understood. The connection is closed.
        DriverError
            When an argument cannot be sent.
        """
        command = COMMANDS[name]
        _check_finite(name, arguments)
        request = encode_request(name, _encoded(command, {**told, **arguments}))
        timeout = self._timeout if within is None else within
        if not self._lock.acquire(timeout=timeout + patience):
            raise DriverError(f"{name} was not sent: the command before it is not answered yet", command=name)
        try:
            results, status, text = self._exchange(command, request, _Wait(timeout, patience, self._interrupt))
        except (OSError, NanonisProtocolError) as exc:
            self.close()
            raise LostError(
                f"the connection to the Nanonis controller at {self._name} is lost ({name}: {exc}): look what the"
                " instrument does, then open the driver again",
                command=name,
            ) from exc
        finally:
            self._lock.release()
        if status:
            raise RefusedError(f"the Nanonis controller refuses {name}: {text or 'it does not say why'}", command=name)
        if text:
            log.warning("the Nanonis controller says after %s: %s", name, text)
        return results

    # ------------------------------------------------------------------ inside

    def _exchange(self, command: Command, request: bytes, wait: "_Wait") -> tuple[dict[str, Any], int, str]:
        if self._socket is None:
            raise ConnectionError("it was lost before")
        self._socket.settimeout(wait.left())
        self._socket.sendall(request)
        header = decode_response_header(self._receive(self._socket, HEADER_SIZE, wait))
        if header.name != command.name:
            raise NanonisProtocolError(f"the answer is one to {header.name}")
        body = self._receive(self._socket, header.size, wait)
        results, block = command.decode_results(body)
        return _decimal(command, results), *self._error(block)

    def _receive(self, connected: socket.socket, size: int, wait: "_Wait") -> bytes:
        received = bytearray()
        while len(received) < size:
            connected.settimeout(min(wait.left(), _SLICE))
            try:
                piece = connected.recv(min(size - len(received), _RECEIVED_AT_ONCE))
            except TimeoutError:
                continue
            if not piece:
                raise ConnectionError("the controller has closed it")
            received += piece
        return bytes(received)

    def _error(self, block: bytes) -> tuple[int, str]:
        for dialect in self._dialects[:-1]:
            try:
                return decode_error_block(block, dialect)
            except NanonisProtocolError:
                continue
        return decode_error_block(block, self._dialects[-1])


class _Wait:
    """How long an answer may take from now on."""

    def __init__(self, timeout: float, patience: float, interrupt: threading.Event) -> None:
        self._timeout = timeout
        self._interrupt = interrupt
        self._end = time.monotonic() + timeout + patience
        self._cut = interrupt.is_set()

    def left(self) -> float:
        """Seconds that are left; raises TimeoutError when there are none."""
        if self._interrupt.is_set() and not self._cut:
            self._end = min(self._end, time.monotonic() + self._timeout)
            self._cut = True
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("there was no answer in time")
        return left


def decimal(value: float) -> float:
    """Return the shortest decimal that a number of 32 bits stands for."""
    return float(str(np.float32(value)))


def _check_finite(command: str, arguments: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise DriverError(f"{command}: {name} is {value}: only finite numbers are sent to a controller", name=name)


def _encoded(command: Command, arguments: Mapping[str, Any]) -> bytes:
    try:
        return command.encode_arguments(arguments)
    except NanonisProtocolError as exc:
        raise DriverError(f"it cannot be sent to a controller: {exc}", **exc.details) from exc


def _decimal(command: Command, results: dict[str, Any]) -> dict[str, Any]:
    short = [field.name for field in command.results if field.kind == "float32"]
    return results | {name: decimal(results[name]) for name in short}
