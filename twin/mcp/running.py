"""Running the server of the Model Context Protocol: over standard input and output, or over HTTP on this machine."""

import hmac
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
import anyio.to_thread
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from starlette.responses import PlainTextResponse

_Scope = MutableMapping[str, Any]
_App = Callable[[_Scope, Callable[..., Awaitable[Any]], Callable[..., Awaitable[None]]], Awaitable[None]]


def run_stdio(server: "Server[Any]", close: Callable[[], None]) -> None:
    """Answer the agent at the other end of standard input and output until it has gone.

    Parameters
    ----------
    server
        What answers.
    close
        What is to be done before the process ends because of SIGTERM or Ctrl-C.
    """
    anyio.run(_answer_until_the_end, server, close)


async def _answer_until_the_end(server: "Server[Any]", close: Callable[[], None]) -> None:
    async with anyio.create_task_group() as tasks:
        if sys.platform != "win32":
            tasks.start_soon(_end_at_signals, close)
        async with stdio_server() as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())
        tasks.cancel_scope.cancel()


async def _end_at_signals(close: Callable[[], None]) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            await anyio.to_thread.run_sync(close)
            # A thread waits for standard input: nothing else ends it.
            os._exit(0)


def run_http(server: "Server[Any]", listening: socket.socket, token: str) -> None:
    """Answer whoever comes over HTTP with the token, until Ctrl-C or SIGTERM."""
    host = listening.getsockname()[0]
    app = _TokenNeeded(server.streamable_http_app(host=host), token)
    config = uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=2)
    for number in (signal.SIGINT, signal.SIGTERM):
        # It stops at these signals, then raises them again: control has to be given back before we end.
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listening])


class _TokenNeeded:
    """Lets only those through who show the token: a port on this machine is open to all of its users."""

    def __init__(self, app: _App, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(
        self, scope: _Scope, receive: Callable[..., Awaitable[Any]], send: Callable[..., Awaitable[None]]
    ) -> None:
        app = self._app
        if scope["type"] == "http":
            shown = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(shown, self._expected):
                said = "twinscope: this needs the header 'Authorization: Bearer TOKEN' with the token of this server\n"
                app = PlainTextResponse(said, 401, {"WWW-Authenticate": "Bearer"})
        await app(scope, receive, send)
