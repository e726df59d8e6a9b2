"""A driver in a process of its own, so that it cannot take the server, the leases or the record with it."""

import atexit
import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np

from twinscope import driver_host
from twinscope._driver_line import LOOKING, receive, send
from twinscope.capabilities import Capabilities
from twinscope.drivers.base import TraceSink
from twinscope.errors import DriverDiedError, DriverError, TwinscopeError
from twinscope.interlocks import Interlocks
from twinscope.requests import AcquisitionRequest
from twinscope.state import Reading

log = logging.getLogger(__name__)

# The thread that answers pings only needs the interpreter: one that is silent for so long, in s, is stuck in foreign
# code that holds it.
_SILENCE = 30.0
_PING_INTERVAL = 1.0
# A driver is made without touching the hardware, but what it imports may take long, in s.
_START_TIMEOUT = 60.0
# A process that has closed its connections is given this long to be gone, in s.
_END_TIMEOUT = 2.0
# One that is to end may first have to withdraw the tip.
_CLOSE_TIMEOUT = 30.0


class DriverProcess:
    """A :class:`~twinscope.guard.Backend` in a process of its own.

    Parameters
    ----------
    driver
        Its name.
    options
        Its options.
    interlocks
        The rules that the process checks once more.
    folder
        Where the lock is that keeps a second process from the same instrument; None for none.

    Raises
    ------
    ConfigurationError
        When there is no such driver, or an option or a rule is wrong.
    DriverDiedError
        When the process ends, or does nothing, instead of telling what it can do.
    """

    def __init__(
        self, driver: str, options: Mapping[str, Any], interlocks: Interlocks, folder: Path | None = None
    ) -> None:
        place = None if folder is None else str(folder.resolve())
        self._arguments = (driver, dict(options), interlocks.to_dict(), place)
        self._sink: TraceSink | None = None
        self._spawn()
        # Otherwise a program that forgets to close it would wait for ever at its end.
        atexit.register(self._end)

    def capabilities(self) -> Capabilities:
        """Tell what the instrument can do."""
        return self._capabilities

    @property
    def pid(self) -> int | None:
        """Number of the process."""
        return self._process.pid

    def open(self) -> Reading:
        """Open the driver."""
        return Reading.from_dict(self._call("open", None))

    def restart(self) -> Reading:
        """End the process and open the driver in a new one."""
        self._end()
        self._spawn()
        return self.open()

    def read(self) -> Reading:
        """Look at the instrument; see :meth:`Guard.read`."""
        return Reading.from_dict(self._call("read", None))

    def close(self) -> None:
        """Close the driver and end its process."""
        try:
            if self._process.is_alive():
                send(self._commands, "close", None, {})
                self._answer(_CLOSE_TIMEOUT)
        except (TwinscopeError, OSError) as exc:
            log.warning("the driver was to be closed: %s", exc)
        self._end()
        atexit.unregister(self._end)

    def perform(self, fence: int | None, command: str, /, **arguments: Any) -> Reading:
        """Carry out a command of the driver; see :meth:`Guard.perform`."""
        return Reading.from_dict(self._call(command, fence, **arguments))

    def start(self, fence: int, request: AcquisitionRequest, sink: TraceSink) -> Reading:
        """Begin an acquisition."""
        self._sink = sink
        return Reading.from_dict(self._call("start", fence, kind=request.kind, data=request.to_dict()))

    def poll(self) -> tuple[bool, Reading]:
        """Carry the acquisition on."""
        more, reading = self._call("poll", None)
        return more, Reading.from_dict(reading)

    def truth(self, low: tuple[float, float], high: tuple[float, float]) -> dict[str, Any]:
        """Ask the oracle."""
        truth: dict[str, Any] = self._call("truth", None, low=low, high=high)
        return truth

    def stop(self) -> None:
        """Stop what is in progress; a process that is gone stands still."""
        self._lifeline.tell("stop", self._begun)

    def kill(self) -> bool:
        """End the process; who waits for its answer sees that."""
        self._process.kill()
        return True

    # ------------------------------------------------------------------ the process

    def _spawn(self) -> None:
        """Start the process and wait until it tells what the instrument can do."""
        # "spawn" starts from nothing: a fork would inherit locks and threads in the middle of what they do.
        context = multiprocessing.get_context("spawn")
        self._commands, commands = context.Pipe()
        here, control = context.Pipe()
        self._process = context.Process(
            target=driver_host.main, args=(commands, control, *self._arguments), name="twinscope-driver"
        )
        self._begun = 0
        self._process.start()
        # Only when no copy is left here does the end of the process close the connection.
        commands.close()
        control.close()
        self._lifeline = _Lifeline(here, self._process)
        try:
            self._capabilities = Capabilities.from_dict(self._answer(_START_TIMEOUT))
        except BaseException:
            # Also when Ctrl-C comes meanwhile.
            self._end()
            raise

    def _end(self) -> None:
        """Let the process end by itself, which brings the tip to safety, or end it."""
        self._lifeline.tell("end")
        self._commands.close()
        self._process.join(_CLOSE_TIMEOUT)
        if self._process.exitcode is None:
            log.error("the driver's process did not end within %.0f s: killing it", _CLOSE_TIMEOUT)
            self.kill()
            self._process.join(_END_TIMEOUT)

    def _died(self) -> DriverDiedError:
        self._process.join(_END_TIMEOUT)
        code = self._process.exitcode
        return DriverDiedError(
            f"the driver's process {_how_ended(code)}: where the tip is, is not known", exit_code=code
        )

    # ------------------------------------------------------------------ commands

    def _call(self, command: str, fence: int | None, **arguments: Any) -> Any:
        self._begun += command not in LOOKING
        try:
            send(self._commands, command, fence, arguments)
        except OSError as exc:
            raise self._died() from exc
        return self._answer()

    def _answer(self, timeout: float | None = None) -> Any:
        """Take what the process sends up to its answer; what goes wrong with its traces stops it and is raised here."""
        failure: TwinscopeError | None = None
        while True:
            kind, *content = self._message(timeout)
            if kind == "error":
                raise failure or TwinscopeError.from_dict(content[0])
            if kind == "done":
                if failure is not None:
                    raise failure
                return content[0]
            if failure is None:
                try:
                    self._pass_on(kind, content)
                except TwinscopeError as exc:
                    failure = exc
                    self.stop()

    def _message(self, timeout: float | None) -> Any:
        try:
            if timeout is not None and not self._commands.poll(timeout):
                log.error("the driver's process did not answer within %.0f s: killing it", timeout)
                self.kill()
            return receive(self._commands)
        except (EOFError, OSError) as exc:
            raise self._died() from exc

    def _pass_on(self, kind: str, content: list[Any]) -> None:
        assert self._sink is not None
        if kind == "warning":
            self._sink.warn(content[0])
            return
        first, shape, data = content
        if len(shape) != 3:
            raise DriverError(f"the driver wrote traces of shape {tuple(shape)}: expected (n, channels, samples)")
        self._sink.write(first, np.frombuffer(data, "<f4").reshape(shape))


class _Lifeline:
    """The control connection to a driver's process, which is killed when it gives no sign of life.

    Only pings and killing happen in its threads: the process is waited for by who commands it.
    """

    def __init__(self, connection: Connection, process: SpawnProcess) -> None:
        self._connection = connection
        self._process = process
        self._heard = time.monotonic()
        self._over = threading.Event()
        self._speaking = threading.Lock()
        for target in (self._ping, self._listen):
            threading.Thread(target=target, name="driver's lifeline", daemon=True).start()

    def tell(self, message: str, begun: int = 0) -> bool:
        """Send a message about the first `begun` commands; False when nobody is there any more."""
        with self._speaking:
            try:
                send(self._connection, message, begun)
            except OSError:
                return False
            return True

    def _ping(self) -> None:
        while self.tell("ping") and not self._over.wait(_PING_INTERVAL):
            if time.monotonic() - self._heard > _SILENCE:
                log.error("the driver's process gave no sign of life for %.0f s: killing it", _SILENCE)
                self._process.kill()

    def _listen(self) -> None:
        try:
            while True:
                receive(self._connection)
                self._heard = time.monotonic()
        except (EOFError, OSError):
            self._over.set()
            with self._speaking:
                self._connection.close()


def _how_ended(code: int | None) -> str:
    if code is None:
        return "does not answer any more"
    if code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return f"ended with exit code {code}"
