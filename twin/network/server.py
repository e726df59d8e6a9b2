"""The server: one instrument, offered to many clients over the protocol of Pyro5."""

import contextlib
import logging
import selectors
import socket
import ssl
import threading
import time
from pathlib import Path

from twinscope.errors import ConfigurationError
from twinscope.instrument import Instrument
from twinscope.network._authentication import Authenticator
from twinscope.network._conversation import Conversation, Dispatcher
from twinscope.network._guests import Guests
from twinscope.network._pyro import Connection
from twinscope.network._sockets import Address, listen, peer_of, remove
from twinscope.network._tls import server_context
from twinscope.network.keys import KeyFolder
from twinscope.service import Service

log = logging.getLogger(__name__)

# Of a token that everybody shares, in characters: over a network it can be guessed from anywhere.
_SHORTEST_TOKEN = 16
# The system has no more sockets for us: a moment later some may have been closed.
_RECOVERY = 0.1


class Server:
    """Listens for clients of an instrument.

    Parameters
    ----------
    instrument
        What to offer.
    host, port
        Where to listen; port 0 takes a free one. The host "unix:/path" is a Unix socket, which only the user who runs
        the server can open.
    token
        One token for all clients; with neither token nor keys everybody who gets there is let in.
    keys
        Key folder, see :mod:`twinscope.network.keys`: clients come with TLS, and show a token or a certificate of it.
    mutual
        Whether a certificate is needed to be spoken with at all, and tokens alone are not enough.

    Attributes
    ----------
    service
        The verbs of the instrument, for other front ends beside this one.
    uri
        Where clients find it.

    Raises
    ------
    ConfigurationError
        When it cannot listen there, when a key cannot be used, or when it would be open to a network without TLS.
    """

    def __init__(
        self,
        instrument: Instrument,
        host: str,
        port: int,
        token: str | None = None,
        *,
        keys: Path | None = None,
        mutual: bool = False,
    ) -> None:
        folder = None if keys is None else KeyFolder(keys)
        if mutual and folder is None:
            raise ConfigurationError("certificates of clients need a key folder: make one with `twinscope keys init`")
        self._socket, self._address = listen(host, port)
        try:
            self._context = _protection(self._address, folder, token, mutual)
        except ConfigurationError:
            remove(self._socket, self._address)
            raise
        self._guests = Guests()
        self.service = Service(instrument)
        self._dispatcher = Dispatcher(self.service)
        self._authenticator = Authenticator(folder, token)
        # A signal handler may write to it while the loop waits.
        self._awake, self._alarm = socket.socketpair()
        self._stopping = threading.Event()
        self.uri = str(_reachable(self._address))

    @property
    def encrypts(self) -> bool:
        """Whether clients need TLS."""
        return self._context is not None

    def run(self) -> None:
        """Serve until :meth:`stop`."""
        self._socket.setblocking(False)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._socket, selectors.EVENT_READ)
                selector.register(self._awake, selectors.EVENT_READ)
                while not self._stopping.is_set():
                    selector.select(self._guests.dismiss_hesitant())
                    self._accept()
        finally:
            remove(self._socket, self._address)
            self._guests.dismiss_all()
            self._awake.close()
            self._alarm.close()

    def stop(self) -> None:
        """End :meth:`run`, from any thread or a signal handler."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            # It may have ended by itself.
            self._alarm.send(b"!")

    def _accept(self) -> None:
        """Take a connection, if one waits, and listen to it in a thread of its own."""
        try:
            accepted, _ = self._socket.accept()
        except BlockingIOError:
            return
        except OSError as exc:
            log.warning("a connection could not be accepted: %s", exc)
            time.sleep(_RECOVERY)
            return
        try:
            self._receive(accepted)
        except OSError as exc:
            log.info("a connection was lost at once: %s", exc)
            accepted.close()

    def _receive(self, accepted: socket.socket) -> None:
        peer = peer_of(accepted)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._context is not None:
            # The handshake waits for the peer, so it is left to the thread.
            accepted = self._context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        connection = Connection(accepted)
        self._guests.arrive(connection, peer)
        conversation = Conversation(connection, peer, self._dispatcher, self._authenticator, self._guests)
        try:
            threading.Thread(target=conversation.run, name=f"client {peer}", daemon=True).start()
        except RuntimeError as exc:
            log.warning("there can be no thread for a connection from %s: %s", peer, exc)
            self._guests.leave(connection)
            connection.close()


def _protection(address: Address, folder: KeyFolder | None, token: str | None, mutual: bool) -> ssl.SSLContext | None:
    """Return how connections are encrypted; only within one machine they need not be."""
    if token is not None and len(token) < _SHORTEST_TOKEN and not address.is_local:
        raise ConfigurationError(
            f"the token has {len(token)} letters, and over a network anyone may guess: expected {_SHORTEST_TOKEN} at"
            " least, or one made by `twinscope keys token`"
        )
    if folder is not None:
        # Nobody listens to a Unix socket.
        return None if address.path else server_context(folder, mutual)
    if not address.is_local:
        raise ConfigurationError(
            f"the server would listen on {address.host}, open to the network, and what is sent (a token, too) could be"
            f" read and changed on the way: make keys with `twinscope keys init`, and serve with --keys FOLDER; or"
            f" leave the host out, and let clients come through an SSH tunnel"
        )
    return None


def _reachable(address: Address) -> Address:
    """Return what clients can connect to: "all addresses" is none."""
    if address.host in ("0.0.0.0", "::"):  # noqa: S104
        return Address(socket.gethostname(), address.port)
    return address
