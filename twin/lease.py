"""The lease: who may move the tip."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from twinscope import _checks
from twinscope.errors import LeaseError, OutOfRangeError
from twinscope.sessions import Caller, Session

LONGEST = 60.0
"""A holder must give a sign of life at least this often, in s."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A right to control the instrument, until a moment on the monotonic clock.

    Attributes
    ----------
    number
        Fencing number: each lease has a greater one than all before it, so that a late command of an older one shows.
    session
        Who holds it.
    purpose
        What others are told.
    duration
        Seconds for which a sign of life is good.
    expires
        Moment on the monotonic clock.
    """

    number: int
    session: Session
    purpose: str
    duration: float
    expires: float

    def describe(self) -> Mapping[str, Any]:
        """Tell who holds the instrument, as plain data."""
        return {
            "number": self.number,
            "holder": self.session.client,
            "identity": self.session.identity.name,
            "purpose": self.purpose,
            "expires_in": self.expires - time.monotonic(),
        }


class LeaseBook:
    """Keeps at most one lease. Not thread-safe: the instrument guards it with its own lock.

    Parameters
    ----------
    last
        Greatest number that was ever given: numbers go on from there after a restart.
    """

    def __init__(self, last: int = 0) -> None:
        self._lease: Lease | None = None
        self._last = last

    def check_free(self, duration: float) -> float:
        """Return the checked duration, in s, when the instrument is nobody's.

        Raises
        ------
        LeaseError
            When someone has it.
        OutOfRangeError
            When the duration is longer than allowed.
        """
        duration = _checks.positive("duration", duration)
        if duration > LONGEST:
            raise OutOfRangeError(f"the lease of {duration} s is too long: expected at most {LONGEST:.0f} s")
        # One that has expired stands until its end was taken note of: what it has begun may have to be aborted.
        current = self._lease
        if current is not None:
            left = max(current.expires - time.monotonic(), 0.0)
            raise LeaseError(
                f"the instrument is held by {current.session.client} ({current.purpose or 'no purpose given'}) for"
                f" another {left:.1f} s unless renewed: wait, or ask them",
                holder=current.session.client,
            )
        return duration

    def acquire(self, session: Session, purpose: str, duration: float) -> Lease:
        """Give the instrument to a session, which must give a sign of life within `duration` seconds."""
        duration = self.check_free(duration)
        self._last += 1
        self._lease = Lease(self._last, session, purpose, duration, time.monotonic() + duration)
        return self._lease

    def check(self, caller: Caller) -> Lease:
        """Return the lease of the caller.

        Raises
        ------
        LeaseError
            When the caller does not hold the lease with the number that it names.
        """
        current = self.current
        if caller.lease is None:
            raise LeaseError("this needs control of the instrument: use `with scope.control():`")
        if current is None or current.session is not caller.session or current.number != caller.lease:
            raise LeaseError(
                f"lease {caller.lease} has expired, was released or was broken: take control again, and look at the"
                " state first",
                lease=caller.lease,
            )
        return current

    def heartbeat(self, session: Session) -> None:
        """Take a sign of life; of those who do not hold the lease it means nothing."""
        current = self.current
        if current is not None and current.session is session:
            self._lease = replace(current, expires=time.monotonic() + current.duration)

    def end(self) -> Lease | None:
        """Take the instrument back from whoever has it, and tell who that was."""
        ended, self._lease = self._lease, None
        return ended

    def end_if_expired(self) -> Lease | None:
        """Take the instrument back when its holder was silent for too long, and tell who that was."""
        if self._lease is not None and self._lease.expires < time.monotonic():
            return self.end()
        return None

    @property
    def current(self) -> Lease | None:
        """The lease in force."""
        if self._lease is not None and self._lease.expires < time.monotonic():
            return None
        return self._lease
