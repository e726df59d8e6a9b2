"""Control of the instrument on behalf of an agent that may think for long, or never come back."""

import logging
import threading
import time
from typing import ClassVar

from twinscope.errors import LeaseError, TwinscopeError
from twinscope.protocol import Transport

log = logging.getLogger(__name__)


class Control:
    """A lease that is renewed as long as its agent is heard of, or something is in progress. Any thread may use it.

    Parameters
    ----------
    transport
        The way to the instrument.
    idle
        Seconds without a call of the agent, and without a job, after which control is given back.
    withdraw
        Whether the tip is withdrawn before control is given back because the agent has gone.
    """

    DURATION: ClassVar[float] = 10.0
    """Seconds after which the instrument is free again when this process has died."""

    def __init__(self, transport: Transport, *, idle: float, withdraw: bool) -> None:
        self._transport = transport
        self._idle = idle
        self._withdraw = withdraw
        self._lease: int | None = None
        self._held = False
        self._heard = time.monotonic()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._renew, name="control", daemon=True)
        self._thread.start()

    @property
    def lease(self) -> int | None:
        """Number of the lease that was taken last: of one that is lost, the instrument says so."""
        return self._lease

    @property
    def held(self) -> bool:
        """Whether we believe to have control."""
        return self._held

    def heard(self) -> None:
        """Take note of a call of the agent."""
        self._heard = time.monotonic()

    def take(self, purpose: str) -> None:
        """Take control; one who has it keeps it.

        Raises
        ------
        LeaseError
            When someone else has it.
        """
        with self._lock:
            if self._closed.is_set():
                raise LeaseError("the conversation is over: control cannot be taken any more")
            if self._held and self._is_good():
                return
            self._held = False
            wanted = {"purpose": purpose, "duration": self.DURATION}
            self._lease = self._transport.call("acquire_lease", wanted).result["lease"]
            self._held = True

    def release(self) -> None:
        """Give control back, if it is held; what was begun goes on."""
        with self._lock:
            if self._held:
                self._transport.call("release_lease", lease=self._lease)
            self._held = False

    def close(self) -> None:
        """End for good: the agent has gone."""
        self._closed.set()
        with self._lock:
            self._leave()

    def _renew(self) -> None:
        while not self._closed.wait(self.DURATION / 3):
            with self._lock:
                try:
                    self._renew_once()
                except TwinscopeError as exc:
                    log.warning("control of the instrument could not be renewed: %s", exc)

    def _renew_once(self) -> None:
        if not self._held:
            return
        silent = time.monotonic() - self._heard
        if silent > self._idle and self._transport.call("state").result["job"] is None:
            log.warning("nothing was heard of the agent for %.0f s: control is given back", silent)
            self._leave()
        elif not self._is_good():
            self._held = False

    def _is_good(self) -> bool:
        try:
            self._transport.call("renew_lease", lease=self._lease)
        except LeaseError as exc:
            log.warning("control of the instrument was lost: %s", exc)
            return False
        return True

    def _leave(self) -> None:
        """Give control back, after the tip was sent away if that is wanted: the withdrawal goes on without us."""
        if not self._held:
            return
        self._held = False
        for verb in ("withdraw", "release_lease") if self._withdraw else ("release_lease",):
            try:
                self._transport.call(verb, lease=self._lease)
            except TwinscopeError as exc:
                # What cannot be given back expires by itself.
                log.warning("%s was refused when the agent had gone: %s", verb, exc)
