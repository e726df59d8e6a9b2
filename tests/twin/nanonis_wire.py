"""A client of the Nanonis protocol that does nothing but speak it, for tests of the gateway."""

import socket
from typing import Any, Self

from twinscope.nanonis_protocol import (
    COMMANDS,
    HEADER_SIZE,
    decode_error_block,
    decode_response_header,
    encode_request,
)

TIMEOUT = 30.0


class RefusedError(Exception):
    """The gateway has answered with an error text."""


class WireClient:
    """One connection; ``client("Bias.Set", bias_value=0.1)`` returns the results by name."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def __call__(self, name: str, **arguments: Any) -> dict[str, Any]:
        self.send(name, **arguments)
        results, status, text = self.receive(name)
        if status or text:
            assert status, f"a text without a status: {text}"
            raise RefusedError(text)
        return results

    def send(self, name: str, *, respond: bool = True, **arguments: Any) -> None:
        self.socket.sendall(encode_request(name, COMMANDS[name].encode_arguments(arguments), respond=respond))

    def receive(self, name: str) -> tuple[dict[str, Any], int, str]:
        """Return the results, the status and the text of the error block."""
        header = decode_response_header(self.read(HEADER_SIZE))
        assert header.name == name
        results, rest = COMMANDS[name].decode_results(self.read(header.size))
        status, text = decode_error_block(rest)
        return results, status, text

    def read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise EOFError("the gateway has closed the connection")
            data += piece
        return bytes(data)
