"""The command ``twinscope mcp``: the microscope for language-model agents."""

import argparse
import json
import os
import secrets
from typing import TYPE_CHECKING

from twinscope._optional import import_optional
from twinscope.cli.options import AddCommand, add_address_options, transport_of

if TYPE_CHECKING:
    import socket

    from twinscope.mcp.instrument_client import InstrumentClient
    from twinscope.mcp.tools import Tool

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def mcp(options: argparse.Namespace) -> int:
    """Let a language-model agent operate an instrument, by the Model Context Protocol over stdin and stdout."""
    from twinscope.mcp.instrument_client import InstrumentClient
    from twinscope.network._sockets import listen

    if not options.schema:
        import_optional("mcp", "mcp")
    listening = None if options.http is None else listen(*options.http)[0]
    client = InstrumentClient(transport_of(options), idle=options.idle, withdraw=options.withdraw_on_exit)
    try:
        _run(client, listening, options)
    finally:
        client.close()
    return 0


def add_commands(add: AddCommand) -> None:
    """Add the commands of this module."""
    sub = add("mcp", mcp)
    add_address_options(sub)
    sub.add_argument("--read-only", action="store_true", help="offer no tool that changes anything")
    sub.add_argument(
        "--allow-acknowledge",
        action="store_true",
        help="let the agent acknowledge an emergency stop, as a person would",
    )
    sub.add_argument(
        "--withdraw-on-exit", action="store_true", help="withdraw the tip when the agent goes while it has control"
    )
    sub.add_argument(
        "--idle",
        type=_seconds,
        default=900.0,
        metavar="S",
        help="take control back after so many seconds without a call and without a job (%(default)g)",
    )
    sub.add_argument(
        "--http",
        type=_place,
        metavar="HOST:PORT",
        help="answer over HTTP on this machine, not stdin; port 0: a free one",
    )
    sub.add_argument("--schema", action="store_true", help="print what the tools take, as JSON Schema, and end")


def _run(client: "InstrumentClient", listening: "socket.socket | None", options: argparse.Namespace) -> None:
    from twinscope.mcp.toolbox import toolbox

    tools = toolbox(
        client.capabilities, client.role, read_only=options.read_only, acknowledge=options.allow_acknowledge
    )
    if options.schema:
        print(json.dumps({name: tool.takes for name, tool in tools.items()}, indent=2))
        return
    _answer(client, tools, listening)


def _answer(client: "InstrumentClient", tools: "dict[str, Tool]", listening: "socket.socket | None") -> None:
    from twinscope.mcp.running import run_http, run_stdio
    from twinscope.mcp.server import AgentServer

    server = AgentServer(client, tools).protocol
    if listening is None:
        run_stdio(server, client.close)
        return
    given = os.environ.get("TWINSCOPE_MCP_TOKEN")
    token = given or secrets.token_urlsafe(32)
    host, port = listening.getsockname()[:2]
    print(f"agents come to http://{f'[{host}]' if ':' in host else host}:{port}/mcp; Ctrl-C stops it", flush=True)
    print(f"with the header Authorization: Bearer {'$TWINSCOPE_MCP_TOKEN' if given else token}", flush=True)
    run_http(server, listening, token)


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if host not in _LOOPBACK or not port.isdecimal() or int(port) >= 2**16:
        raise argparse.ArgumentTypeError(
            f"{text!r} was given, expected an address of this machine such as 127.0.0.1:8765; for others, use a tunnel"
        )
    return host, int(port)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} was given, expected seconds, more than none")
    return seconds
