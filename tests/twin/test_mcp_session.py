"""A language-model agent's way in: the official client of the Model Context Protocol against ``twinscope mcp``."""

import base64
import json

import anyio
import numpy as np
import pytest
from mcp import MCPError

import twinscope
from tests.conftest import ServerProcess
from tests.twin._mcp import CAUTIOUS, FRAME, LOOKING, MEASURING, MOVING, SCAN, SLOW, Agent, converse
from tests.twin._mcp import served as served
from tests.twin._mcp import watcher as watcher
from twinscope import ScanFrame


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
