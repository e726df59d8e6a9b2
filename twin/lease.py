"""The lease: who may move the tip."""

import secrets
import time
from dataclasses import dataclass
from typing import Any

from twinscope import _checks
from twinscope.errors import LeaseError, OutOfRangeError

LONGEST = 60.0
"""A holder must give a sign of life at least this often, in s."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A right to control the instrument, until a moment on the monotonic clock."""

    key: str
    holder: str
    purpose: str
    duration: float
    expires: float


class LeaseBook:
    """Keeps at most one lease. Not thread-safe: the instrument guards it with its own lock."""

    def __init__(self) -> None:
        self._lease: Lease | None = None

    def acquire(self, holder: str, purpose: str, duration: float) -> Lease:
        """Give the instrument to `holder`, who must renew within `duration` seconds.

        Raises
        ------
        LeaseError
            When someone else has it.
        OutOfRangeError
            When the duration is longer than allowed.
        """
        duration = _checks.positive("duration", duration)
        if duration > LONGEST:
            raise OutOfRangeError(f"the lease of {duration} s is too long: expected at most {LONGEST:.0f} s")
        current = self.current
        if current is not None:
            raise LeaseError(
                f"the instrument is held by {current.holder} ({current.purpose or 'no purpose given'}) for another"
                f" {current.expires - time.monotonic():.1f} s unless renewed: wait, or ask them",
                holder=current.holder,
            )
        self._lease = Lease(secrets.token_hex(16), holder, purpose, duration, time.monotonic() + duration)
        return self._lease

    def check(self, key: str | None) -> None:
        """Accept the holder's key as a sign of life, refuse any other.

        Raises
        ------
        LeaseError
            When the key is not that of the current lease.
        """
        current = self.current
        if key is None:
            raise LeaseError("this needs control of the instrument: use `with scope.control():`")
        if current is None or not secrets.compare_digest(current.key, key):
            raise LeaseError("the lease has expired or was released: take control again, and look at the state first")
        self._lease = Lease(
            current.key, current.holder, current.purpose, current.duration, time.monotonic() + current.duration
        )

    def release(self, key: str) -> None:
        """Give the instrument back; a lease that is over already is no error."""
        if self._lease is not None and secrets.compare_digest(self._lease.key, key):
            self._lease = None

    @property
    def current(self) -> Lease | None:
        """The lease in force."""
        if self._lease is not None and self._lease.expires < time.monotonic():
            self._lease = None
        return self._lease

    def describe(self) -> dict[str, Any] | None:
        """Tell who holds the instrument, without the key."""
        lease = self.current
        if lease is None:
            return None
        return {"holder": lease.holder, "purpose": lease.purpose, "expires_in": lease.expires - time.monotonic()}
