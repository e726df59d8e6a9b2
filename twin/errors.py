"""The exceptions of twinscope.

::

    TwinscopeError
    ├── InvalidRequestError (ValueError)   the request makes no sense: nothing was sent to the instrument
    │   ├── OutOfRangeError                a value is outside the instrument's limits
    │   └── UnknownChannelError            the instrument has no such channel
    ├── InterlockError                     a rule that keeps the tip safe forbids it
    │   └── TripError                      a signal left its allowed range: the tip was withdrawn
    ├── ConfigurationError (ValueError)    a driver, its options or its sample cannot be used
    ├── LeaseError                         the caller does not hold the instrument
    ├── ForbiddenError                     the role of the session does not allow it
    ├── BusyError                          the instrument is doing something else
    ├── NotFoundError (LookupError)        no such job or acquisition
    ├── AcquisitionError                   an acquisition failed
    │   └── AbortedError                   an acquisition was aborted
    ├── DriverError                        the driver, or what stands behind it, failed
    │   └── DriverDiedError                the process of the driver has ended or was ended
    ├── NanonisProtocolError               bytes do not follow the Nanonis protocol, or cannot be sent in it
    ├── StoreError (OSError)               data could not be written or read
    ├── MissingPackageError (ImportError)  an optional package is not installed
    └── RemoteError                        the server cannot be used
        ├── ServerUnreachableError (ConnectionError)  there is no answer
        ├── OutcomeUnknownError            the server was restarted while it carried the request out
        └── AuthenticationError            one of the two does not know the other

Each crosses the wire as ``{"code", "message", "details"}`` and is the same class on the other side.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class TwinscopeError(Exception):
    """Base of all exceptions of this package.

    Parameters
    ----------
    message
        What was wrong, with the value, what was expected, and what to do.
    details
        The same for programs: plain data.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def to_dict(self) -> dict[str, Any]:
        """Return the error as plain data."""
        return {"code": self.code, "message": self.message, "details": self.details}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "TwinscopeError":
        """Rebuild an error from :meth:`to_dict`; an unknown code gives the base class."""
        cls = _BY_CODE.get(str(data.get("code")), TwinscopeError)
        return cls(str(data.get("message", "unknown error")), **dict(data.get("details") or {}))


class InvalidRequestError(TwinscopeError, ValueError):
    """The request makes no sense; nothing was sent to the instrument."""

    code = "invalid_request"


class OutOfRangeError(InvalidRequestError):
    """A value is outside the instrument's limits; nothing was moved and nothing was clamped."""

    code = "out_of_range"


class UnknownChannelError(InvalidRequestError):
    """The instrument has no such channel."""

    code = "unknown_channel"


class InterlockError(TwinscopeError):
    """A rule that keeps the tip safe forbids it; nothing was moved."""

    code = "interlock"


class TripError(InterlockError):
    """A signal left its allowed range while something was measured or moved: the tip was withdrawn."""

    code = "trip"


class ConfigurationError(TwinscopeError, ValueError):
    """A driver, its options or its sample cannot be used."""

    code = "configuration"


class LeaseError(TwinscopeError):
    """The caller does not hold the instrument."""

    code = "lease"


class ForbiddenError(TwinscopeError):
    """The role of the session does not allow it."""

    code = "forbidden"


class BusyError(TwinscopeError):
    """The instrument is doing something else."""

    code = "busy"


class NotFoundError(TwinscopeError, LookupError):
    """There is no such job or acquisition."""

    code = "not_found"


class AcquisitionError(TwinscopeError):
    """An acquisition failed; what was measured until then is kept."""

    code = "acquisition_failed"


class AbortedError(AcquisitionError):
    """An acquisition was aborted; what was measured until then is kept."""

    code = "aborted"


class DriverError(TwinscopeError):
    """The driver, or what stands behind it, failed."""

    code = "driver"


class DriverDiedError(DriverError):
    """The process of the driver has ended, or was ended because it did not answer."""

    code = "driver_died"


class NanonisProtocolError(TwinscopeError):
    """Bytes do not follow the Nanonis protocol, or a value cannot be sent in it."""

    code = "nanonis_protocol"


class StoreError(TwinscopeError, OSError):
    """Data could not be written or read."""

    code = "store"


class MissingPackageError(TwinscopeError, ImportError):
    """An optional package is not installed."""

    code = "missing_package"


class RemoteError(TwinscopeError):
    """The server cannot be used."""

    code = "remote"


class ServerUnreachableError(RemoteError, ConnectionError):
    """There is no answer from the server."""

    code = "unreachable"


class OutcomeUnknownError(RemoteError):
    """The server was restarted while it carried the request out: look at the state before you repeat it."""

    code = "outcome_unknown"


class AuthenticationError(RemoteError):
    """The server does not know who we are, or is not the one that we know."""

    code = "authentication"


def _family(cls: type[TwinscopeError]) -> list[type[TwinscopeError]]:
    return [cls, *(member for child in cls.__subclasses__() for member in _family(child))]


_BY_CODE = {cls.code: cls for cls in _family(TwinscopeError)}
