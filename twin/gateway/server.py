"""The Nanonis gateway: listens where a Nanonis controller would, one client per port."""

import logging
import selectors
import socket
import threading
import time
from collections.abc import Sequence

from twinscope.errors import ConfigurationError
from twinscope.gateway.controller import Controller
from twinscope.gateway.conversation import Conversation
from twinscope.gateway.operator import Operator
from twinscope.interlocks import Interlocks
from twinscope.nanonis_protocol import ErrorDialect
from twinscope.service import Service
from twinscope.sessions import Role

log = logging.getLogger(__name__)

PORTS = (6501, 6502, 6503, 6504)
"""Where controllers listen."""

IDLE_TIME = 300.0
"""Seconds after which clients that change nothing lose control of the instrument."""

# The protocol knows no password: nobody from elsewhere may get here.
_HOST = "127.0.0.1"
_END_TIMEOUT = 5.0
# The system has no more sockets for us: a moment later some may have been closed.
_RECOVERY = 0.1


class NanonisGateway:
    """Answers the Nanonis TCP protocol on top of the verbs of a service.

    Parameters
    ----------
    service
        The verbs.
    ports
        Where to listen, each for one client; 0 takes a free one.
    role
        What the clients may do.
    interlocks
        The rules of the instrument, for who asks.
    idle_time
        Seconds after which clients that change nothing lose control of the instrument.
    dialect
        Of the error block.

    Raises
    ------
    ConfigurationError
        When it cannot listen there.
    """

    def __init__(
        self,
        service: Service,
        ports: Sequence[int] = PORTS,
        *,
        role: Role = Role.OPERATOR,
        interlocks: Interlocks | None = None,
        idle_time: float = IDLE_TIME,
        dialect: ErrorDialect = ErrorDialect.SHORT,
    ) -> None:
        self._dialect = dialect
        self._listening = _listen(ports)
        self._operator = Operator(service, role, idle_time)
        self._controller = Controller(self._operator, interlocks or Interlocks())
        self._conversations: dict[int, Conversation] = {}
        self._threads: list[threading.Thread] = []
        self._awake, self._alarm = socket.socketpair()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="nanonis gateway", daemon=True)

    @property
    def ports(self) -> tuple[int, ...]:
        """Where it listens."""
        return tuple(listening.getsockname()[1] for listening in self._listening)

    def start(self) -> None:
        """Begin to take clients."""
        self._thread.start()

    def close(self) -> None:
        """Let all clients go and give control back; what they have begun goes on. A second time it does nothing."""
        if self._closed:
            return
        self._closed = True
        self._alarm.send(b"!")
        if self._thread.is_alive():
            self._thread.join()
        for conversation in self._conversations.values():
            conversation.end()
        deadline = time.monotonic() + _END_TIMEOUT
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        self._operator.close()
        for opened in (*self._listening, self._awake, self._alarm):
            opened.close()

    # ------------------------------------------------------------------ inside

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for number, listening in enumerate(self._listening):
                selector.register(listening, selectors.EVENT_READ, number)
            selector.register(self._awake, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        return
                    self._accept(key.data)

    def _accept(self, number: int) -> None:
        """Take the client that waits at a port."""
        try:
            accepted, (host, port) = self._listening[number].accept()
        except BlockingIOError:
            return
        except OSError as exc:
            log.warning("a Nanonis client could not be accepted: %s", exc)
            time.sleep(_RECOVERY)
            return
        peer = f"{host}:{port} at port {self.ports[number]}"
        try:
            self._receive(number, accepted, peer)
        except (OSError, RuntimeError) as exc:
            # It is gone again, or there can be no thread for it.
            log.warning("the Nanonis client %s cannot be served: %s", peer, exc)
            accepted.close()

    def _receive(self, number: int, accepted: socket.socket, peer: str) -> None:
        """Begin a conversation, unless somebody is at the port already."""
        present = self._conversations.get(number)
        if present is not None and not present.is_over:
            log.warning("the Nanonis client %s is sent away: another one is there, one port takes one client", peer)
            accepted.close()
            return
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conversation = Conversation(accepted, peer, self._controller, self._dialect)
        thread = threading.Thread(target=self._talk, args=(conversation,), name=f"nanonis {peer}", daemon=True)
        # Counted here: when a client comes as another one goes, control is not given away in between.
        self._operator.arrive()
        try:
            thread.start()
        except RuntimeError:
            self._operator.leave()
            raise
        log.info("the Nanonis client %s has come", peer)
        self._conversations[number] = conversation
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]

    def _talk(self, conversation: Conversation) -> None:
        try:
            conversation.run()
        finally:
            self._operator.leave()


def _listen(ports: Sequence[int]) -> list[socket.socket]:
    """Listen at all ports, or at none."""
    listening: list[socket.socket] = []
    try:
        for port in ports:
            listening.append(socket.create_server((_HOST, port)))
            listening[-1].setblocking(False)
    except OSError as exc:
        for opened in listening:
            opened.close()
        raise ConfigurationError(
            f"the Nanonis gateway cannot listen on {_HOST}:{port}: {exc}; give other ports with --nanonis-ports"
        ) from exc
    return listening
