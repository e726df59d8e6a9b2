"""A server that is started again when it dies: ``twinscope serve --restart``.

The server is a process of its own. What it finds when it comes back is in its journal: the tip stays where the driver
has left it, and nothing moves until an operator has looked.
"""

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

log = logging.getLogger(__name__)

# Pauses between starts, in s. A server that has lived for the time of the last is a new beginning.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 60.0


class Supervisor:
    """Keeps a command running.

    Parameters
    ----------
    command
        What to run.
    hopeless
        Exit code with which it says that its values are wrong: at the first start, trying again would not help.
    """

    def __init__(self, command: Sequence[str], hopeless: int) -> None:
        self._command = list(command)
        self._hopeless = hopeless
        self._process: subprocess.Popen[bytes] | None = None
        self._signal = 0
        self._ending = threading.Event()

    def run(self) -> int:
        """Run the command until it ends well, or is told to end by SIGINT or SIGTERM; returns its exit code.

        It must be called by the main thread. The signals are passed on.
        """
        previous = {number: signal.signal(number, self._pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return self._run()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _run(self) -> int:
        pause, is_first = _FIRST_PAUSE, True
        while True:
            begin = time.monotonic()
            code = self._run_once()
            if code == 0 or self._ending.is_set() or (is_first and code == self._hopeless):
                return code
            is_first = False
            if time.monotonic() - begin > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            ending = f"exit code {code}" if code > 0 else f"signal {-code}"
            log.error("the server ended with %s: starting it again in %.2g s", ending, pause)
            if self._ending.wait(pause):
                return code
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _run_once(self) -> int:
        self._process = subprocess.Popen(self._command)  # noqa: S603 - our own command line
        # A signal that came between the wait and this found nobody.
        if self._ending.is_set():
            self._tell(self._signal)
        return self._process.wait()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._signal = number
        self._ending.set()
        self._tell(number)

    def _tell(self, number: int) -> None:
        process = self._process
        # Windows hands Ctrl-C to all processes of the console by itself.
        if process is not None and process.poll() is None and sys.platform != "win32":
            process.send_signal(number)
