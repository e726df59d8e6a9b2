"""The command ``twinscope mcp``: how it ends, agents over HTTP, and what it prints."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

import twinscope
from tests.conftest import ServerProcess, until
from tests.twin._mcp import LOOKING, ROOT, SLOW, Agent, converse
from tests.twin._mcp import served as served
from tests.twin._mcp import watcher as watcher
from twinscope import errors
from twinscope.cli import main
from twinscope.local import LocalTransport
from twinscope.mcp.control import Control

# ---------------------------------------------------------------------- how it ends


HOLDER = """
import sys, anyio
from mcp import Client, StdioServerParameters
async def hold():
    async with Client(StdioServerParameters(command=sys.executable, args=sys.argv[1:])) as client:
        await client.call_tool("take_control", {"purpose": "to be killed"})
        print("held", flush=True)
        await anyio.sleep_forever()
anyio.run(hold)
"""


def test_control_is_free_when_the_host_of_the_agent_is_killed(
    served: ServerProcess, watcher: twinscope.Microscope
) -> None:
    arguments = [sys.executable, "-c", HOLDER, "-m", "twinscope", "mcp", "--address", served.uri]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "held\n"
        assert watcher.state().lease["purpose"] == "to be killed"
        host.kill()
    # At once, not only when the lease of 10 s has expired.
    until(lambda: watcher.state().lease is None, timeout=5)
    assert watcher.state().tip == "in_range"


def test_the_tip_is_withdrawn_when_the_agent_goes_if_that_is_wanted(
    served: ServerProcess, watcher: twinscope.Microscope
) -> None:
    async def talk(agent: Agent) -> None:
        await agent("take_control", purpose="to leave")
        await agent("scan", **SLOW)

    converse(served, talk, "--withdraw-on-exit")
    until(lambda: watcher.state().tip == "withdrawn", timeout=5)
    assert watcher.state().lease is None
    assert watcher.current_acquisition().progress().state == "aborted"


def test_control_is_given_back_when_nothing_is_heard_of_the_agent(instrument, monkeypatch) -> None:
    monkeypatch.setattr(Control, "DURATION", 0.15)
    transport = LocalTransport(instrument())
    control = Control(transport, idle=0.3, withdraw=True)
    with twinscope.Microscope(transport=transport) as scope:
        control.take("to fall asleep")
        number = scope.state().lease["number"]
        control.heard()
        assert control.held
        until(lambda: scope.state().lease is None)
        assert not control.held
        until(lambda: scope.state().tip == "withdrawn")
        control.take("awake again")
        assert scope.state().lease["number"] > number
        control.close()
        assert scope.state().lease is None
        with pytest.raises(errors.LeaseError, match="over"):
            control.take("too late")


# ---------------------------------------------------------------------- HTTP, and the command


def test_agents_come_over_http_with_a_token(served: ServerProcess, watcher: twinscope.Microscope) -> None:
    command = [sys.executable, "-m", "twinscope", "mcp", "--address", served.uri, "--http", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[3].rstrip(";")
        token = process.stdout.readline().split()[-1]

        async def talk() -> None:
            headers = {"Authorization": f"Bearer {token}"}
            async with (
                httpx2.AsyncClient(headers=headers) as http,
                Client(streamable_http_client(url, http_client=http)) as client,
            ):
                await Agent(client)("take_control", purpose="from afar")
                assert watcher.state().lease["purpose"] == "from afar"

        for shown in ({}, {"Authorization": "Bearer guess"}):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(urllib.request.Request(url, b"{}", shown))
        # A page in a browser, or a name that somebody else has let point here, gets nowhere even with the token.
        known = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        for shown, status in (({"Origin": "http://elsewhere.example"}, "403"), ({"Host": "elsewhere.example"}, "421")):
            with pytest.raises(urllib.error.HTTPError, match=status):
                urllib.request.urlopen(urllib.request.Request(url, b"{}", known | shown))
        anyio.run(talk)
        process.terminate()
        assert process.wait(10) == 0
    assert watcher.state().lease is None


class RawSession:
    """A conversation line by line, as hosts in other languages have it, also with what no client of ours would say."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "0"}}
        self.version = self.say("initialize", json.dumps(about))["result"]["protocolVersion"]
        self.write('{"jsonrpc": "2.0", "method": "notifications/initialized"}')

    def write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def say(self, method: str, parameters: str) -> dict[str, Any]:
        """Send a request and return the answer."""
        self.write(f'{{"jsonrpc": "2.0", "id": 1, "method": "{method}", "params": {parameters}}}')
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def call(self, tool: str, arguments: str) -> dict[str, Any]:
        """Call a tool and return its result."""
        return self.say("tools/call", f'{{"name": "{tool}", "arguments": {arguments}}}')["result"]


def test_numbers_that_are_none_are_refused_and_a_signal_gives_control_back(
    served: ServerProcess, watcher: twinscope.Microscope
) -> None:
    command = [sys.executable, "-m", "twinscope", "mcp", "--address", served.uri]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        session = RawSession(process)
        assert session.version == "2025-06-18"
        assert not session.call("take_control", '{"purpose": "to be ended"}')["isError"]
        before = watcher.state()
        for number in ("NaN", "Infinity", "1e999", "null"):
            refused = session.call("move_to", f'{{"x": {number}, "y": 0}}')
            assert refused["isError"]
            assert refused["structuredContent"]["error"]["details"]["name"] == "x"
        assert watcher.state().position == before.position
        assert watcher.state().lease is not None
        process.terminate()
        assert process.wait(10) == 0
    assert watcher.state().lease is None


def test_the_command_prints_the_schemas(served: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp", "--address", served.uri, "--schema", "--read-only"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == LOOKING


@pytest.mark.parametrize(
    "arguments", [("--http", "0.0.0.0:1"), ("--http", "localhost"), ("--idle", "0"), ("--idle", "nan"), ("--idle", "x")]
)
def test_values_that_make_no_sense_are_refused(arguments: tuple[str, str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["mcp", *arguments])
    assert ended.value.code == 2
    assert "was given, expected" in capsys.readouterr().err


def test_without_the_package_the_command_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert main(["mcp"]) == 1
    assert "pip install 'twinscope[mcp]'" in capsys.readouterr().err


def test_our_package_is_not_theirs() -> None:
    assert Path(mcp.__file__).parent != ROOT / "twin" / "mcp"
    code = "import sys, twinscope.mcp.toolbox, twinscope.cli; twinscope.cli._parser(); print('mcp' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
