"""A conversation with one Nanonis client: it asks, the gateway answers, one command after the other."""

import logging
import select
import socket

from twinscope.errors import NanonisProtocolError
from twinscope.gateway.answers import answer_to
from twinscope.gateway.call import Call, ClientGoneError
from twinscope.gateway.controller import Controller
from twinscope.nanonis_protocol import HEADER_SIZE, ErrorDialect, decode_request_header

log = logging.getLogger(__name__)

# A client that has begun a message goes on with it, and takes what it is sent, within these times, in s.
_SILENCE = 2.0
_SEND_TIMEOUT = 30.0
_RECEIVED_AT_ONCE = 2**16


class Conversation:
    """Reads requests from a socket and answers them until the client leaves.

    Parameters
    ----------
    connected
        The socket; it is closed at the end.
    peer
        Who is there, for the log.
    controller
        Who the client speaks with.
    dialect
        Of the error block.
    """

    def __init__(self, connected: socket.socket, peer: str, controller: Controller, dialect: ErrorDialect) -> None:
        self._socket = connected
        self._peer = peer
        self._controller = controller
        self._dialect = dialect
        self._received = bytearray()
        self._over = False

    def run(self) -> None:
        """Answer until the client leaves or cannot be understood any more."""
        try:
            while True:
                self._converse()
        except ClientGoneError:
            log.info("the Nanonis client %s has left", self._peer)
        except NanonisProtocolError as exc:
            log.warning("the Nanonis client %s is sent away: %s", self._peer, exc)
        except OSError as exc:
            log.info("the Nanonis client %s is lost: %s", self._peer, exc)
        finally:
            self._over = True
            self._socket.close()

    def end(self) -> None:
        """Let the client go, whatever it does; from any thread. :meth:`run` returns soon."""
        self._over = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("the Nanonis client %s was gone already", self._peer)

    @property
    def is_over(self) -> bool:
        """Whether the client has left, also while its command is still being carried out."""
        return self._over or _has_left(self._socket)

    def _converse(self) -> None:
        """Take a request and answer it."""
        request = decode_request_header(self._take_header())
        body = self._take_body(request.size)
        if len(body) < request.size:
            # Some clients leave out leading zeros. They wait for an answer, and what follows is a new request.
            log.warning("%s from %s has %d bytes of %d", request.name, self._peer, len(body), request.size)
        answer = answer_to(request.name, body, Call(self._controller, self._check_client), self._dialect)
        if request.respond:
            self._socket.settimeout(_SEND_TIMEOUT)
            # In one piece: clients read the header with one recv.
            self._socket.sendall(answer)

    def _take_header(self) -> bytes:
        """Wait for a header, as long as it takes to begin."""
        while len(self._received) < HEADER_SIZE:
            if not self._receive() and self._received:
                raise NanonisProtocolError(
                    f"{len(self._received)} bytes came, then nothing: expected a header of {HEADER_SIZE} bytes"
                )
        return self._taken(HEADER_SIZE)

    def _take_body(self, size: int) -> bytes:
        """Return what comes of a body before the client falls silent."""
        while len(self._received) < size and self._receive():
            pass
        return self._taken(size)

    def _taken(self, size: int) -> bytes:
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def _receive(self) -> bool:
        """Take what comes next; False when nothing does for a while."""
        if self._over:
            raise ClientGoneError
        self._socket.settimeout(_SILENCE)
        try:
            piece = self._socket.recv(_RECEIVED_AT_ONCE)
        except TimeoutError:
            return False
        if not piece:
            raise ClientGoneError
        self._received += piece
        return True

    def _check_client(self) -> None:
        if self.is_over:
            raise ClientGoneError


def _has_left(connected: socket.socket) -> bool:
    """Whether the other end of a connection was closed, also when something that it has sent waits to be read."""
    try:
        if hasattr(select, "POLLRDHUP"):
            poll = select.poll()
            poll.register(connected, select.POLLRDHUP)
            return bool(poll.poll(0))
        readable, _, _ = select.select([connected], [], [], 0)
        return bool(readable) and not connected.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
        # It is closed on this side.
        return True
