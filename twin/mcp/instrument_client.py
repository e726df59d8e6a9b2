"""A client of the instrument for an agent: it can look, ask whether, and do, without waiting for the end."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from twinscope.acquisition import Acquisition
from twinscope.capabilities import Capabilities
from twinscope.errors import RemoteError, TwinscopeError
from twinscope.mcp.control import Control
from twinscope.microscope import Microscope
from twinscope.protocol import Transport

# Acquisitions whose data are kept here, so that several questions about one fetch them once.
_KEPT = 2


class InstrumentClient:
    """The instrument, for one agent. Any thread may use it.

    Parameters
    ----------
    transport
        The way to the instrument; it is closed with this client.
    idle, withdraw
        See :class:`~twinscope.mcp.control.Control`.

    Attributes
    ----------
    capabilities
        What the instrument can do.
    role
        What we may do: "observer", "operator" or "admin".
    on_lease_loss
        What becomes of an acquisition when this process dies, unless the agent says otherwise.
    """

    def __init__(self, transport: Transport, *, idle: float = 900.0, withdraw: bool = False) -> None:
        self._transport = transport
        self._scope = Microscope(transport=transport)
        self.capabilities: Capabilities = self._scope.capabilities()
        self.role: str = self.ask("hello")["role"]
        self.on_lease_loss = "abort_and_withdraw" if withdraw else "continue"
        self._kept: OrderedDict[str, Acquisition] = OrderedDict()
        self._lock = threading.Lock()
        self.control = Control(transport, idle=idle, withdraw=withdraw)

    def close(self) -> None:
        """Give control back, if held, and close the connection."""
        self.control.close()
        self._scope.close()

    def ask(self, verb: str, **parameters: Any) -> Any:
        """Look: carry out a verb that changes nothing, and return what it answers."""
        return self._transport.call(verb, parameters).result

    def do(self, verb: str, parameters: Mapping[str, Any]) -> Any:
        """Carry out a verb that changes something, with our lease, and return what it answers."""
        return self._transport.call(verb, parameters, lease=self.control.lease).result

    def why_not(self, verb: str, parameters: Mapping[str, Any]) -> TwinscopeError | None:
        """Ask whether a verb would be carried out now: None if so, else the error that it would raise.

        Raises
        ------
        RemoteError
            When nobody can be asked.
        """
        try:
            self._transport.call(verb, parameters, lease=self.control.lease, dry_run=True)
        except RemoteError:
            raise
        except TwinscopeError as exc:
            return exc
        return None

    def job(self, identifier: Any, timeout: float = 0.0) -> dict[str, Any]:
        """Tell how far a job is, after waiting for its end for up to `timeout` s."""
        progress: dict[str, Any] = self.ask("wait_job", id=identifier, timeout=timeout)
        return progress

    def acquisition(self, identifier: Any) -> Acquisition:
        """Return an acquisition with the data that are here already.

        Raises
        ------
        NotFoundError
            When the instrument does not remember it.
        """
        with self._lock:
            acquisition = self._kept.pop(str(identifier), None) or self._scope.acquisition(identifier)
            self._kept[acquisition.id] = acquisition
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return acquisition
