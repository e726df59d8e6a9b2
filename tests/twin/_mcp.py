"""An agent that talks to ``twinscope mcp`` over a server, for all tests of it.

Who imports a fixture imports those that it takes, too.
"""

import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

import twinscope
from tests.conftest import ServerProcess, start_server

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
MOVING = {"move_to", "set_signal", "set_feedback", "approach", "coarse_move", "pulse", "shape_tip", "exchange_tip"}
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
