"""The server of the Model Context Protocol: tools and resources of an instrument, for one agent."""

import base64
import json
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from twinscope._version import __version__
from twinscope.errors import TwinscopeError
from twinscope.mcp.instrument_client import InstrumentClient
from twinscope.mcp.results import finite
from twinscope.mcp.tools import Picture, Report, Tool

_INSTRUCTIONS = """\
You operate a scanning-probe microscope: {instrument}. All values are in SI units: m, V, A, Hz, s; angles in degrees.
Look first (state, signals, capabilities). To move or measure, call take_control and say for what; release_control when
you have done. Try what you are not sure of with dry_run. What takes time returns a job: call wait with its id until it
is over. What is outside of the limits, or forbidden by the interlocks, is refused, never changed to fit: read what the
error says, and do not repeat the same call. Withdraw the tip when you stop working. If tip or sample are in danger,
call emergency_stop."""

_CORRECT = "nothing was done: correct the call by what the message says"
_ADVICE = {
    "invalid_request": _CORRECT,
    "out_of_range": _CORRECT,
    "unknown_channel": _CORRECT,
    "lease": "call take_control; if someone else has it, wait for them. After a loss look at the state first",
    "busy": "wait for the job that is named, or abort it",
    "interlock": "do not repeat it: choose something that the rule allows, or ask the person who owns the instrument",
    "trip": "the tip was withdrawn: look at state, signals and the data, and find out why before you approach again",
    "aborted": "what was measured until then is kept: see summary, and events for who stopped it",
    "not_found": "jobs and find tell which there are",
    "forbidden": "ask the person who runs the instrument: your role does not allow it",
    "outcome_unknown": "look at state and jobs before you repeat it",
    "missing_package": "tell the person who runs this server",
}
_OTHERWISE = "look at the state, if there is an answer, and tell the person who runs the instrument"


class AgentServer:
    """Answers an agent.

    Parameters
    ----------
    client
        The way to the instrument.
    tools
        What the agent may call, by name.
    """

    def __init__(self, client: InstrumentClient, tools: Mapping[str, Tool]) -> None:
        self._client = client
        self._tools = tools
        # Threads of its own: what waits must not keep a stop from being heard.
        self._urgent = {name: anyio.CapacityLimiter(4) for name in ("emergency_stop", "withdraw")}
        self.protocol: Server[Any] = Server(
            "twinscope",
            version=__version__,
            instructions=_INSTRUCTIONS.format(instrument=client.capabilities.instrument),
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_read_resource=self._read_resource,
        )

    async def _list_tools(self, context: ServerRequestContext[Any], parameters: Any) -> types.ListToolsResult:
        del context, parameters
        return types.ListToolsResult(tools=[described(tool) for tool in self._tools.values()])

    async def _call_tool(
        self, context: ServerRequestContext[Any], parameters: types.CallToolRequestParams
    ) -> types.CallToolResult:
        tool = self._tools.get(parameters.name)
        if tool is None:
            known = ", ".join(self._tools)
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {parameters.name!r}: expected one of {known}")
        work = partial(self._carry_out, tool, dict(parameters.arguments or {}), _reporter(context))
        try:
            # What cannot be interrupted is left to itself when the agent has gone.
            answer = await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._urgent.get(tool.name))
        except TwinscopeError as exc:
            return _failure(exc)
        return _success(answer)

    def _carry_out(self, tool: Tool, arguments: dict[str, Any], report: Report) -> Mapping[str, Any] | Picture:
        self._client.control.heard()
        tool.check(arguments)
        return tool.run(self._client, arguments, report)

    async def _list_resources(self, context: ServerRequestContext[Any], parameters: Any) -> types.ListResourcesResult:
        del context, parameters
        return types.ListResourcesResult(
            resources=[
                types.Resource(uri=uri, name=verb, description=text, mime_type="application/json")
                for uri, (verb, text) in _RESOURCES.items()
            ]
        )

    async def _read_resource(
        self, context: ServerRequestContext[Any], parameters: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        del context
        uri = str(parameters.uri)
        if uri not in _RESOURCES:
            expected = ", ".join(_RESOURCES)
            raise MCPError(types.INVALID_PARAMS, f"there is no resource {uri!r}: expected one of {expected}")
        try:
            found = await anyio.to_thread.run_sync(self._client.ask, _RESOURCES[uri][0], abandon_on_cancel=True)
        except TwinscopeError as exc:
            raise MCPError(types.INTERNAL_ERROR, exc.message, exc.to_dict()) from exc
        text = types.TextResourceContents(uri=uri, mime_type="application/json", text=_json(finite(found)))
        return types.ReadResourceResult(contents=[text])


_RESOURCES = {
    "twinscope://capabilities": ("capabilities", "what the instrument can do"),
    "twinscope://state": ("state", "what it is doing now"),
}


def described(tool: Tool) -> types.Tool:
    """Describe a tool as the protocol does."""
    hints = types.ToolAnnotations(
        read_only_hint=not tool.writes,
        destructive_hint=tool.destructive,
        idempotent_hint=tool.idempotent,
        open_world_hint=False,
    )
    return types.Tool(
        name=tool.name,
        description=tool.text,
        input_schema=tool.takes,
        output_schema=tool.gives,
        annotations=hints,
    )


def _reporter(context: ServerRequestContext[Any]) -> Report:
    """Tell the agent from a thread how far something is; raises when its call was cancelled."""
    last = -math.inf

    def report(done: float, total: float | None, words: str) -> None:
        nonlocal last
        anyio.from_thread.check_cancelled()
        # The protocol wants each number to be greater than the one before.
        if done > last:
            last = done
            anyio.from_thread.run(context.session.report_progress, done, total, words)

    return report


def _success(answer: Mapping[str, Any] | Picture) -> types.CallToolResult:
    content: list[types.ContentBlock] = []
    if isinstance(answer, Picture):
        picture = base64.b64encode(answer.png).decode("ascii")
        content.append(types.ImageContent(data=picture, mime_type="image/png"))
        answer = answer.about
    structured = finite(answer)
    # The same as text, for hosts that show the model nothing else.
    content.append(types.TextContent(text=_json(structured)))
    return types.CallToolResult(content=content, structured_content=structured)


def _failure(exc: TwinscopeError) -> types.CallToolResult:
    error = finite(exc.to_dict()) | {"advice": _ADVICE.get(exc.code, _OTHERWISE)}
    return types.CallToolResult(
        content=[types.TextContent(text=_json({"error": error}))],
        structured_content={"error": error},
        is_error=True,
    )


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False)
