"""The verbs of the microscope: plain data in, plain data out, the same for every way to reach it.

A verb is a method marked with :func:`verb`. It knows nothing of sockets; a front end hands it the parameters that it
received and sends back the :class:`Reply`.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from twinscope import _checks
from twinscope._version import __version__
from twinscope.errors import InvalidRequestError
from twinscope.instrument import Instrument
from twinscope.protocol import CHUNK, LONGEST_WAIT, VERSION, Reply
from twinscope.requests import request_from_dict

_Method = TypeVar("_Method", bound=Callable[..., Any])


def verb(method: _Method) -> _Method:
    """Mark a method of :class:`Service` as callable by clients."""
    method.__verb__ = True  # type: ignore[attr-defined]
    return method


class Service:
    """The verbs of one instrument."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument

    def call(self, name: str, parameters: Mapping[str, Any]) -> Reply:
        """Carry out a verb.

        Raises
        ------
        TwinscopeError
            As the verb does.
        InvalidRequestError
            When there is no such verb, or the parameters do not fit.
        """
        method = getattr(type(self), name, None) if isinstance(name, str) else None
        if not getattr(method, "__verb__", False):
            raise InvalidRequestError(f"there is no verb {name!r}: expected one of {', '.join(self.verbs())}")
        assert method is not None
        try:
            arguments = inspect.signature(method).bind(self, **parameters)
        except TypeError as exc:
            raise InvalidRequestError(f"the parameters of {name} do not fit: {exc}") from exc
        result = method(*arguments.args, **arguments.kwargs)
        return result if isinstance(result, Reply) else Reply(result)

    @classmethod
    def verbs(cls) -> list[str]:
        """Names of all verbs."""
        return sorted(name for name, member in vars(cls).items() if getattr(member, "__verb__", False))

    # ------------------------------------------------------------------ reading: for everyone, at any time

    @verb
    def hello(self) -> dict[str, Any]:
        """Tell who is there."""
        return {"twinscope": __version__, "protocol": VERSION, "instrument": self._instrument.capabilities.instrument}

    @verb
    def capabilities(self) -> dict[str, Any]:
        """See :class:`Capabilities`."""
        return self._instrument.capabilities.to_dict()

    @verb
    def state(self) -> dict[str, Any]:
        """See :class:`InstrumentState`."""
        return self._instrument.state().to_dict()

    @verb
    def wait_ready(self, timeout: float) -> bool:
        """Wait until the driver is open."""
        return self._instrument.wait_ready(_patience(timeout))

    @verb
    def acquisition(self, id: str) -> dict[str, Any]:
        """Everything about an acquisition but its data."""
        record = self._instrument.record(id)
        return {"metadata": record.metadata, "progress": record.progress()}

    @verb
    def pull(self, id: str, offset: int, timeout: float) -> Reply:
        """Return data of an acquisition from a byte on, as far as measured; waits when there is nothing new yet."""
        record = self._instrument.record(id)
        if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise InvalidRequestError(f"offset is {offset!r}: expected an integer of zero or more")
        record.wait(offset, _patience(timeout))
        # The state is read first: when it is final, all data were there.
        progress = record.progress()
        return Reply(progress, record.read(offset, CHUNK))

    @verb
    def wait_motion(self, motion: int, timeout: float) -> bool:
        """Wait for a motion to end; raises what went wrong with it."""
        return self._instrument.wait_motion(motion, _patience(timeout))

    # ------------------------------------------------------------------ control

    @verb
    def acquire_lease(self, holder: str, purpose: str, duration: float) -> dict[str, Any]:
        """Take control."""
        lease = self._instrument.acquire_lease(str(holder), str(purpose), duration)
        return {"lease": lease.key, "duration": lease.duration}

    @verb
    def renew_lease(self, lease: str) -> None:
        """Give a sign of life."""
        self._instrument.renew_lease(lease)

    @verb
    def release_lease(self, lease: str) -> None:
        """Give control back."""
        self._instrument.release_lease(lease)

    # ------------------------------------------------------------------ writing: for the holder of the lease

    @verb
    def move_to(self, lease: str | None, x: Any = None, y: Any = None, z: Any = None) -> int:
        """Begin to move the tip; returns the number for :meth:`wait_motion`."""
        return self._instrument.move_to(lease, x, y, z)

    @verb
    def withdraw(self, lease: str | None) -> int:
        """Begin to withdraw the tip; returns the number for :meth:`wait_motion`."""
        return self._instrument.withdraw(lease)

    @verb
    def approach(self, lease: str | None) -> int:
        """Begin to approach; returns the number for :meth:`wait_motion`."""
        return self._instrument.approach(lease)

    @verb
    def acquire(self, lease: str | None, kind: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a scan or a spectroscopy."""
        record = self._instrument.start_acquisition(lease, request_from_dict(kind, request))
        return {"metadata": record.metadata, "progress": record.progress()}

    @verb
    def abort(self, lease: str | None, id: str) -> dict[str, Any]:
        """Abort an acquisition; returns when the driver stands still."""
        return self._instrument.abort(lease, id).progress()


def _patience(timeout: Any) -> float:
    return min(max(_checks.finite("timeout", timeout), 0.0), LONGEST_WAIT)
