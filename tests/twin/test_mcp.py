"""A language-model agent's way in: the official client of the Model Context Protocol against ``twinscope mcp``."""

import base64
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

import twinscope
from tests.conftest import ServerProcess, start_server, until
from twinscope import ScanFrame, errors
from twinscope.cli import main
from twinscope.errors import InvalidRequestError, TwinscopeError
from twinscope.local import LocalTransport
from twinscope.mcp.control import Control
from twinscope.mcp.instrument_client import InstrumentClient
from twinscope.mcp.results import brief, excerpt, finite
from twinscope.mcp.toolbox import toolbox
from twinscope.mcp.tools import Picture

ROOT = Path(__file__).resolve().parent.parent.parent
FRAME = {"size": [4e-9, 2e-9]}
SCAN = {"frame": FRAME, "pixels": [8, 4], "channels": ["at_x", "at_z"], "line_time": 0.01, "direction": "both"}
SLOW = SCAN | {"line_time": 60.0}
LOOKING = {
    "capabilities",
    "state",
    "signals",
    "jobs",
    "progress",
    "wait",
    "find",
    "events",
    "summary",
    "picture",
    "data",
}
CAUTIOUS = {"take_control", "release_control", "emergency_stop", "withdraw", "pause", "resume", "abort"}
MOVING = {"move_to", "set_signal", "set_feedback", "approach", "coarse_move", "pulse", "shape_tip"}
MEASURING = {"scan", "scan_path", "scan_line", "spectroscopy"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server over the ramp, in real time."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    folder = tmp_path_factory.mktemp("ramp")
    rules = folder / "interlocks.toml"
    rules.write_text('allow = ["pulse"]\nleast_move_height = 5e-10\n')
    driver = ("--driver", "tests.conftest:RampDriver", "--set", "rate=realtime", "--interlocks", str(rules))
    running = start_server(folder / "data", *driver, PYTHONPATH=path)
    yield running
    running.kill()


@pytest.fixture
def watcher(served: ServerProcess) -> Iterator[twinscope.Microscope]:
    """Another client of the same instrument; it leaves the tip in range and nothing blocked."""
    with twinscope.connect(served.uri) as scope:
        yield scope
        with scope.control(wait=5):
            if scope.state().blocked is not None:
                scope.acknowledge()
            scope.withdraw()
            scope.set_signal("bias", 0.1)
            scope.approach()


class Agent:
    """An agent at the other end of a session."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __call__(self, tool: str, **arguments: Any) -> Any:
        """Call a tool that is expected to succeed, and return what it says."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result
        assert json.loads(result.content[-1].text) == result.structured_content
        return result.structured_content

    async def fail(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool that is expected to fail, and return the error."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result
        assert json.loads(result.content[0].text) == result.structured_content
        assert "Traceback" not in result.content[0].text
        error = result.structured_content["error"]
        assert error.keys() == {"code", "message", "details", "advice"}
        return error

    async def finish(self, job: str) -> dict[str, Any]:
        """Wait for the end of a job."""
        progress = await self("wait", id=job, timeout=10)
        assert progress["over"], progress
        return progress


def converse(served: ServerProcess, talk: Callable[[Agent], Awaitable[None]], *options: str) -> None:
    """Let an agent talk to a ``twinscope mcp`` of its own."""
    arguments = ["-m", "twinscope", "mcp", "--address", served.uri, *options]

    async def session() -> None:
        failed = None
        async with Client(StdioServerParameters(command=sys.executable, args=arguments)) as client:
            try:
                await talk(Agent(client))
            except Exception as exc:
                # Raised outside, where it is not wrapped in the groups of the client's tasks.
                failed = exc
        if failed is not None:
            raise failed

    anyio.run(session)


# ---------------------------------------------------------------------- the tools


def test_the_tools_say_what_they_may_do(ramp: twinscope.Microscope) -> None:
    from twinscope.mcp.server import described

    tools = {name: described(tool) for name, tool in toolbox(ramp.capabilities(), "operator").items()}
    assert set(tools) == LOOKING | CAUTIOUS | MOVING | MEASURING
    for name, tool in tools.items():
        Draft202012Validator.check_schema(tool.input_schema)
        Draft202012Validator.check_schema(tool.output_schema)
        assert not tool.input_schema.keys() & {"oneOf", "anyOf", "allOf"}
        assert len(tool.description) > 20
        hints = tool.annotations
        assert hints.read_only_hint is (name in LOOKING)
        assert hints.destructive_hint is (name in MOVING | MEASURING)
        assert hints.idempotent_hint is (name not in {"coarse_move", "pulse", "shape_tip"} | MEASURING)
        assert hints.open_world_hint is False
        assert ("dry_run" in tool.input_schema["properties"]) is (name not in LOOKING)


def test_who_may_not_do_it_is_not_offered_it(ramp: twinscope.Microscope) -> None:
    capabilities = ramp.capabilities()
    assert set(toolbox(capabilities, "admin", read_only=True)) == LOOKING
    assert set(toolbox(capabilities, "observer")) == LOOKING | {"emergency_stop"}
    assert set(toolbox(capabilities, "operator", acknowledge=True)) - set(toolbox(capabilities, "operator")) == {
        "acknowledge"
    }


def test_the_documentation_has_the_tools(ramp: twinscope.Microscope) -> None:
    page = (ROOT / "docs" / "bridges.md").read_text()
    table = page.partition("| Tool |")[2].partition("\n\n")[0]
    rows = {name: row for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1:2][0])}
    tools = toolbox(ramp.capabilities(), "operator", acknowledge=True)
    assert set(rows) == set(tools)
    for name, row in rows.items():
        for argument in set(tools[name].takes["properties"]) - {"dry_run", "on_lease_loss"}:
            assert f"`{argument}`" in row, (name, argument)
        assert ("may hurt" in row) is tools[name].destructive, name


# ---------------------------------------------------------------------- sessions


def test_an_agent_does_a_whole_session(served: ServerProcess, watcher: twinscope.Microscope) -> None:
    async def talk(agent: Agent) -> None:
        listed = {tool.name for tool in (await agent.client.list_tools()).tools}
        assert listed == LOOKING | CAUTIOUS | MOVING | MEASURING
        assert (await agent("capabilities"))["instrument"] == "ramp"
        cursor = (await agent("events"))["cursor"]
        assert not (await agent("state"))["you_have_control"]

        # Nothing is done without control, nor by a dry run.
        refused = await agent("move_to", x=1e-9, dry_run=True)
        assert refused["would_be_done"] is False
        assert refused["why_not"]["code"] == "lease"
        assert (await agent("take_control", purpose="tests", dry_run=True)) == {"dry_run": True, "would_be_done": True}
        assert watcher.state().lease is None
        await agent("take_control", purpose="tests")
        await agent("take_control", purpose="tests")
        assert watcher.state().lease["purpose"] == "tests"
        assert (await agent("take_control", purpose="tests", dry_run=True))["would_be_done"]
        assert (await agent("state"))["you_have_control"]
        before = watcher.state()
        assert (await agent("move_to", x=1e-9, dry_run=True)) == {"dry_run": True, "would_be_done": True}
        assert watcher.state().position == before.position

        # Moving and setting.
        assert (await agent("approach"))["over"]
        await agent("set_signal", name="bias", value=0.5)
        signals = {signal["name"]: signal for signal in (await agent("signals"))["signals"]}
        assert (signals["bias"]["value"], signals["bias"]["highest"], signals["bias"]["unit"]) == (0.5, 10.0, "V")
        assert "highest" not in signals["current"]
        await agent("move_to", x=1e-9, y=-1e-9)
        assert (await agent("state"))["position"] == {"x": 1e-9, "y": -1e-9, "z": 1e-9}
        await agent("pulse", voltage=2.0, duration=0.01)

        # An image, its numbers and its picture.
        scan = await agent("scan", **SCAN)
        assert not scan["over"]
        assert (await agent.finish(scan["job"]))["traces_done"] == 8
        summary = await agent("summary", id=scan["job"])
        assert summary["complete"]
        assert [channel["name"] for channel in summary["channels"]] == [
            "at_x",
            "at_z",
            "at_x_backward",
            "at_z_backward",
        ]
        result = watcher.acquisition(scan["job"]).result()
        assert summary["channels"][0]["mean"] == pytest.approx(result["at_x"].values.astype(float).mean(), abs=1e-16)
        assert summary["channels"][0]["measured"] == 1
        data = await agent("data", id=scan["job"], channel="at_x_backward")
        assert np.array_equal(np.array(data["values"], np.float32), result["at_x_backward"].values)
        part = await agent("data", id=scan["job"], window=[[1, 4], [2, 8]], most=6)
        assert np.array_equal(np.array(part["values"], np.float32), result["at_x"].values[1:4:2, 2:8:2])
        assert part["axes"][1]["values"] == pytest.approx(result["at_x"].axes[1].values[2:8:2], rel=1e-11)
        drawn = await agent.client.call_tool("picture", {"id": scan["job"], "channel": "at_z"})
        assert drawn.content[0].mime_type == "image/png"
        assert base64.b64decode(drawn.content[0].data).startswith(b"\x89PNG\r\n")
        assert len(drawn.content[0].data) < 100_000
        assert drawn.structured_content["name"] == "at_z"

        # Spectra and lines.
        sweep = {"start": 1e-9, "stop": 3e-9, "points": 5}
        spectra = await agent("spectroscopy", swept="z", positions=[[0, 0]], sweep=sweep, channels=["at_z"])
        await agent.finish(spectra["job"])
        values = (await agent("data", id=spectra["job"]))["values"]
        assert values[0] == pytest.approx(np.linspace(1e-9, 3e-9, 5), rel=1e-6)
        line = await agent("scan_line", start=[0, 0], stop=[2e-9, 0], points=3, channels=["at_x"], point_time=0.01)
        await agent.finish(line["job"])
        assert (await agent("data", id=line["job"]))["values"][0] == pytest.approx([0, 1e-9, 2e-9], rel=1e-6)
        path = await agent("scan_path", positions=[[1e-9, 0]], channels=["at_x"], height=2e-9)
        await agent.finish(path["job"])
        found = (await agent("find", kind="path", limit=2))["acquisitions"]
        assert [one["id"] for one in found] == [path["job"], line["job"]]
        assert [job["id"] for job in (await agent("jobs", limit=1))["jobs"]] == [path["job"]]

        # What has happened.
        first = await agent("events", cursor=cursor, limit=3)
        assert len(first["events"]) == 3
        rest = await agent("events", cursor=first["cursor"], limit=200)
        numbers = [event["number"] for event in first["events"] + rest["events"]]
        assert numbers == list(range(cursor["number"] + 1, numbers[-1] + 1))

        await agent("withdraw")
        assert (await agent("state"))["tip"] == "withdrawn"
        await agent("coarse_move", axis="x", steps=3)
        assert (await agent("release_control", dry_run=True))["would_be_done"]
        assert watcher.state().lease is not None
        await agent("release_control")
        assert watcher.state().lease is None

    converse(served, talk)


def test_what_goes_wrong_is_told_to_the_model(served: ServerProcess, watcher: twinscope.Microscope) -> None:
    async def talk(agent: Agent) -> None:
        error = await agent.fail("move_to", x=1e-9)
        assert error["code"] == "lease"
        assert "take_control" in error["advice"]
        with watcher.control(purpose="mine"):
            assert "mine" in (await agent.fail("take_control", purpose="yours"))["message"]
        await agent("take_control", purpose="mistakes")
        before = watcher.state()
        error = await agent.fail("move_to", x=5e-6)
        assert error["code"] == "out_of_range"
        assert error["details"] == {"name": "x", "value": 5e-6, "low": -1e-6, "high": 1e-6}
        assert "not clamped" in error["message"]
        assert (await agent.fail("scan", **SCAN | {"channels": ["topography"]}))["code"] == "unknown_channel"
        assert (await agent.fail("move_to", x=3e-9, z=1e-10))["code"] == "interlock"
        assert (await agent.fail("shape_tip", depth=1e-9))["code"] == "interlock"
        for tool, arguments, named in (
            ("move_to", {"x": float("nan"), "y": 0}, "x"),
            ("move_to", {"y": "here"}, "y"),
            ("move_to", {}, "coordinate"),
            ("move_to", {"x": 0, "speeed": 1}, "speeed"),
            ("move_to", {"x": 0, "dry_run": "yes"}, "dry_run"),
            ("scan", SCAN | {"frame": FRAME | {"center": [0, float("inf")]}}, "center"),
            ("scan", SCAN | {"on_lease_loss": "panic"}, "on_lease_loss"),
            ("scan", {"frame": FRAME, "pixels": [4, 4]}, "channels"),
            ("scan_line", {"start": [0, 0], "stop": [1e-9], "points": 4, "channels": ["at_x"]}, "stop"),
            ("set_signal", {"name": "tunnel", "value": 1}, "tunnel"),
            ("wait", {"id": "x", "timeout": 1e9}, "timeout"),
            ("jobs", {"limit": 1000}, "limit"),
            ("find", {"since": "yesterday"}, "since"),
            ("events", {"cursor": {"run": 1}}, "cursor"),
            ("acknowledge", None, "acknowledge"),
        ):
            if arguments is None:
                with pytest.raises(MCPError, match=named):
                    await agent.client.call_tool(tool, {})
            elif tool == "events":
                assert (await agent(tool, **arguments))["missed"] is None
            else:
                error = await agent.fail(tool, **arguments)
                assert error["code"] == "invalid_request"
                assert named in error["message"]
        assert (await agent.fail("summary", id="20200101-scan"))["code"] == "not_found"
        assert watcher.state().position == before.position

        scan = await agent("scan", **SCAN)
        await agent.finish(scan["job"])
        assert "at_q" in (await agent.fail("picture", id=scan["job"], channel="at_q"))["message"]
        for window in ([[0, 9], [0, 8]], [[0, 4]], [[2, 2], [0, 8]], [[0, 1.5], [0, 8]], "all"):
            assert "window" in (await agent.fail("data", id=scan["job"], window=window))["message"]

        # What one agent cannot do, another may: control that was broken is told of.
        watcher.break_control()
        error = await agent.fail("withdraw")
        assert error["code"] == "lease"
        assert "broken" in error["message"]
        await agent("take_control", purpose="again")

    converse(served, talk)


def test_a_slow_job_is_waited_for_paused_and_aborted(served: ServerProcess, watcher: twinscope.Microscope) -> None:
    heard: list[tuple[float, float | None, str | None]] = []

    async def note(done: float, total: float | None, words: str | None) -> None:
        heard.append((done, total, words))

    async def talk(agent: Agent) -> None:
        await agent("take_control", purpose="patience")
        job = (await agent("scan", **SLOW))["job"]
        assert (await agent.fail("move_to", x=0))["code"] == "busy"
        waited = await agent.client.call_tool("wait", {"id": job, "timeout": 0.2}, progress_callback=note)
        assert waited.structured_content["over"] is False
        assert heard[-1][1:] == (8, "running")

        # What waits does not keep a stop from being heard, and can be given up.
        async with anyio.create_task_group() as tasks:

            async def wait_long() -> None:
                await agent.client.call_tool("wait", {"id": job, "timeout": 50})

            tasks.start_soon(wait_long)
            assert (await agent("pause", id=job, dry_run=True))["would_be_done"]
            assert (await agent("abort", id=job, dry_run=True))["would_be_done"]
            assert (await agent("progress", id=job))["state"] == "running"
            tasks.cancel_scope.cancel()
        assert (await agent("pause", id=job))["over"] is False
        assert (await agent("resume", id=job))["over"] is False
        assert (await agent("abort", id=job))["over"]
        error = await agent.fail("wait", id=job)
        assert error["code"] == "aborted"
        assert error["details"]["job"] == job
        summary = await agent("summary", id=job)
        assert (summary["state"], summary["complete"]) == ("aborted", False)
        assert summary["channels"][0]["mean"] is None
        assert (await agent("data", id=job))["values"] == [[None] * 8] * 4

    converse(served, talk)
    assert watcher.state().lease is None


def test_an_emergency_stop_needs_no_control(served: ServerProcess, watcher: twinscope.Microscope) -> None:
    async def talk(agent: Agent) -> None:
        with watcher.control(purpose="somebody else"):
            watcher.scan(frame=ScanFrame(size=(1e-9, 1e-9)), pixels=(8, 8), channels=["at_x"], line_time=60.0)
            assert (await agent("emergency_stop", dry_run=True))["would_be_done"]
            assert watcher.state().blocked is None
            assert (await agent("emergency_stop", reason="smoke"))["over"]
        state = await agent("state")
        assert state["tip"] == "withdrawn"
        assert "smoke" in state["blocked"]
        await agent("take_control", purpose="after")
        refused = await agent.fail("approach")
        assert "smoke" in refused["message"]
        await agent("acknowledge")
        await agent("approach")

    converse(served, talk, "--allow-acknowledge")


def test_a_reader_can_change_nothing(served: ServerProcess, watcher: twinscope.Microscope) -> None:
    async def talk(agent: Agent) -> None:
        assert {tool.name for tool in (await agent.client.list_tools()).tools} == LOOKING
        for tool in ("take_control", "move_to", "emergency_stop"):
            with pytest.raises(MCPError, match="there is no tool"):
                await agent.client.call_tool(tool, {})
        listed = [str(resource.uri) for resource in (await agent.client.list_resources()).resources]
        assert listed == ["twinscope://capabilities", "twinscope://state"]
        read = await agent.client.read_resource("twinscope://capabilities")
        assert json.loads(read.contents[0].text) == json.loads(json.dumps(watcher.capabilities().to_dict()))
        with pytest.raises(MCPError, match="twinscope://sample"):
            await agent.client.read_resource("twinscope://sample")
        assert "ramp" in agent.client.instructions

    converse(served, talk, "--read-only")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture
def client(instrument: Callable[..., Any]) -> Iterator[InstrumentClient]:
    """A client with control of an instrument in this process."""
    client = InstrumentClient(LocalTransport(instrument()))
    client.control.take("tests")
    client.do("acquire", {"kind": "scan", "request": {"frame": FRAME, "pixels": [4, 4], "channels": ["at_x"]}})
    yield client
    client.close()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_model_says_the_answer_is_one_of_ours(client: InstrumentClient, data: st.DataObject) -> None:
    tools = toolbox(client.capabilities, client.role, acknowledge=True)
    tool = tools[data.draw(st.sampled_from(sorted(set(tools) - {"emergency_stop"})))]
    usual = {
        "id": client.ask("jobs")[0]["id"],
        "frame": FRAME,
        "pixels": [2, 2],
        "channels": ["at_x"],
        "positions": [[0, 0]],
    }
    known = tool.takes["properties"]
    arguments = {name: value for name, value in usual.items() if name in known}
    chosen = data.draw(st.lists(st.sampled_from(sorted(known)), unique=True)) if known else []
    arguments |= {name: data.draw(JUNK) for name in chosen}
    try:
        tool.check(arguments)
        answer = tool.run(client, dict(arguments), lambda *_: None)
    except TwinscopeError as exc:
        json.dumps(exc.to_dict())
        return
    about = answer.about if isinstance(answer, Picture) else answer
    Draft202012Validator(tool.gives).validate(finite(about))


def test_the_advice_is_not_to_correct_what_is_not_the_models_fault() -> None:
    from twinscope.mcp.server import _failure

    advice = {cls: _failure(cls("m")).structured_content["error"]["advice"] for cls in errors_of_the_package()}
    for cls, text in advice.items():
        assert ("correct the call" in text) is issubclass(cls, InvalidRequestError), cls


def errors_of_the_package() -> list[type[TwinscopeError]]:
    return [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, TwinscopeError)]


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


def test_what_is_shown_of_data_is_exact(ramp: twinscope.Microscope) -> None:
    with ramp.control():
        scan = ramp.scan(frame=ScanFrame(size=(3e-9, 1e-9)), pixels=(7, 3), channels=["at_x"]).result()
    data = scan["at_x"]
    whole = excerpt(data, None, 21)
    assert np.array_equal(np.array(whole["values"], np.float32), data.values)
    assert max(len(str(value)) for row in whole["values"] for value in row) <= 16
    thin = excerpt(data, None, 20)
    assert (thin["stride"], np.shape(thin["values"])) == (2, (2, 4))
    one = excerpt(data, None, 1)
    assert one["values"] == [[whole["values"][0][0]]]


def test_the_axes_of_a_picture_are_in_their_own_units(ramp: twinscope.Microscope) -> None:
    from matplotlib.figure import Figure

    with ramp.control():
        sweep = twinscope.Sweep(start=-1, stop=2, points=4)
        spectra = ramp.spectroscopy("bias", positions=[(0, 0)], sweep=sweep, channels=["at_z"]).result()
        line = ramp.scan_line((0, 0), (1e-9, 0), 3, channels=["at_z"]).result()
    axes = spectra.plot(ax=Figure().subplots())
    assert axes.get_xlabel() == "Bias voltage (V)"
    assert axes.lines[0].get_xdata().tolist() == [-1, 0, 1, 2]
    axes = line.plot(ax=Figure().subplots())
    assert axes.get_xlabel() == "Position"
    assert axes.lines[0].get_xdata().tolist() == [0, 1, 2]


def test_long_lists_are_cut_short() -> None:
    positions = [[number, 0] for number in range(1000)]
    assert brief({"positions": positions, "pixels": (3, 4)}) == {
        "positions": [*positions[:20], "and 980 more"],
        "pixels": [3, 4],
    }
