"""The tools that change something: each can be tried first, and each passes limits, interlocks and the lease."""

from collections.abc import Callable, Mapping
from typing import Any

from twinscope import _checks
from twinscope.capabilities import Capabilities
from twinscope.errors import InvalidRequestError, OutOfRangeError, TwinscopeError
from twinscope.jobs import ON_LEASE_LOSS
from twinscope.mcp.instrument_client import InstrumentClient
from twinscope.mcp.looking import succeeded
from twinscope.mcp.tools import FLAG, OBJECT, TEXT, Report, Tool
from twinscope.requests import line_positions, request_from_dict
from twinscope.schemas import COUNT, Schema, choice, closed, point, verb_schemas

# In s: what is over by then is told at once, without a call of `wait`.
_PATIENCE = 2.0

# Verbs about a job that another has begun.
_DIRECTING = ("pause", "resume", "abort")

_DONE: Schema = {
    "type": "object",
    "properties": {
        "dry_run": FLAG,
        "would_be_done": FLAG | {"description": "only of a dry run"},
        "why_not": OBJECT | {"description": "of a dry run of what would not be done: code, message, details"},
        "job": TEXT | {"description": "its id, to wait for, of what takes time"},
        "state": TEXT | {"description": "of the job"},
        "over": FLAG | {"description": "whether all is done; if not, wait for the job"},
    },
    "required": ["dry_run"],
}

_LINE = ("start", "stop", "points")

_Parameters = Callable[[InstrumentClient, dict[str, Any]], Mapping[str, Any]]
"""Turns the arguments of a tool into the parameters of its verb."""


def acting_tools(capabilities: Capabilities, *, role: str, acknowledge: bool) -> list[Tool]:
    """List the tools that change something.

    Parameters
    ----------
    capabilities
        Of the instrument: there is no tool for what it cannot do.
    role
        Of the agent: an observer can only stop.
    acknowledge
        Whether the agent may let the tip move again after something has gone wrong.
    """
    stop = _tool(
        "emergency_stop",
        "Stop everything and withdraw the tip, whoever has control. Needs no control. Nothing moves then until a person"
        " has looked and acknowledged it. Use it when tip or sample are in danger.",
        closed({"reason": TEXT | {"description": "what people are told"}}),
    )
    if role == "observer":
        return [stop]
    verbs = verb_schemas(capabilities)
    tools = [*_control_tools(), stop, *_tip_tools(verbs), *_acquisition_tools(capabilities, verbs), *_job_tools()]
    if acknowledge:
        text = "Let the tip move again after something has gone wrong: look at blocked in the state, and at the tip."
        tools.append(_tool("acknowledge", text, closed({}), destructive=True, idempotent=False))
    return tools


# ---------------------------------------------------------------------- the tools


def _control_tools() -> list[Tool]:
    take = (
        "Take control of the instrument: only who has it can move and measure. Give it back with release_control; it is"
        " given back by itself when nothing is heard of you for long."
    )
    purpose = _with_dry_run(closed({"purpose": TEXT | {"description": "what others are told"}}, ["purpose"]))
    release = "Give control back; what was begun goes on."
    return [
        Tool("take_control", take, purpose, _DONE, _take, writes=True),
        Tool("release_control", release, _with_dry_run(closed({})), _DONE, _release, writes=True),
    ]


def _tip_tools(verbs: Mapping[str, Schema]) -> list[Tool]:
    texts = {
        "move_to": "Move the tip along a straight line to x, y, z in m; what is left out stays.",
        "set_signal": "Set a signal, at once or with a rate.",
        "set_feedback": "Let the z-controller hold something constant, or switch it off.",
        "approach": "Bring the tip to its working height.",
        "coarse_move": "Step the coarse motor. Withdraw the tip first.",
        "pulse": "Apply a pulse of the bias, which can change the tip. The interlocks must allow it.",
        "shape_tip": "Dip the tip into the sample to change it. The interlocks must allow it.",
        "exchange_tip": "Put something else at the end of the tip, and withdraw it. The interlocks must allow it.",
    }
    repeatable = ("move_to", "set_signal", "set_feedback", "approach", "exchange_tip")
    tools = [
        _tool(verb, text, verbs[verb], destructive=True, idempotent=verb in repeatable)
        for verb, text in texts.items()
        if verb in verbs
    ]
    withdraw = "Abort what is in progress and take the tip away from the sample."
    return [*tools, _tool("withdraw", withdraw, verbs["withdraw"])]


def _acquisition_tools(capabilities: Capabilities, verbs: Mapping[str, Schema]) -> list[Tool]:
    tools = []
    if "scan" in verbs:
        tools.append(_acquisition("scan", "Scan an image, or a stack of images.", verbs["scan"], "scan"))
    if "path" in verbs:
        text = "Measure along a path through places, or at separate places."
        tools.append(_acquisition("scan_path", text, verbs["path"], "path"))
        takes = _line(capabilities, verbs["path"])
        tools.append(_acquisition("scan_line", "Measure along a straight line.", takes, "path"))
    if "spectroscopy" in verbs:
        text = "Take spectra: step through z or the bias at one place or more."
        tools.append(_acquisition("spectroscopy", text, verbs["spectroscopy"], "spectroscopy"))
    return tools


def _line(capabilities: Capabilities, path: Schema) -> Schema:
    """Describe a path by its ends."""
    ends = {end: point(capabilities.limits, f"{end} of the line, in m") for end in ("start", "stop")}
    rest = {name: known for name, known in path["properties"].items() if name != "positions"}
    required = [*_LINE, *(name for name in path["required"] if name != "positions")]
    points = COUNT | {"maximum": capabilities.most_values, "description": "equidistant, ends included"}
    return path | {"properties": ends | {"points": points} | rest, "required": required}


def _positions(capabilities: Capabilities, start: Any, stop: Any, points: Any) -> list[tuple[float, float]]:
    """Return the places along a line, if they are not more than the instrument could record."""
    count, most = _checks.count("points", points), capabilities.most_values
    if count > most:
        raise OutOfRangeError(f"points is {count}: expected at most {most}", name="points", value=count, high=most)
    return line_positions(start, stop, count)


def _job_tools() -> list[Tool]:
    job = closed({"id": TEXT | {"description": "of a job"}}, ["id"])
    return [
        _tool("pause", "Let an acquisition rest after the line in progress; the tip stays where it is.", job),
        _tool("resume", "Let a paused acquisition go on.", job),
        _tool("abort", "Stop a job; what was measured is kept.", job),
    ]


# ---------------------------------------------------------------------- how they are made


def _with_dry_run(takes: Schema) -> Schema:
    text = "only tell whether it would be done now, and do nothing"
    return takes | {"properties": takes["properties"] | {"dry_run": FLAG | {"default": False, "description": text}}}


def _as_given(client: InstrumentClient, arguments: dict[str, Any]) -> Mapping[str, Any]:
    del client
    return arguments


def _tool(
    name: str,
    text: str,
    takes: Schema,
    *,
    verb: str | None = None,
    parameters: _Parameters = _as_given,
    destructive: bool = False,
    idempotent: bool = True,
) -> Tool:
    """Make the tool for a verb, of the same name unless given."""

    def run(client: InstrumentClient, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
        del report
        given = dict(arguments)
        if _is_dry_run(given):
            return _dry_run(_why_not(client, verb or name, parameters, given))
        return _begun(client, verb or name, client.do(verb or name, parameters(client, given)))

    return Tool(
        name, text, _with_dry_run(takes), _DONE, run, writes=True, destructive=destructive, idempotent=idempotent
    )


def _acquisition(name: str, text: str, takes: Schema, kind: str) -> Tool:
    """Make the tool for an acquisition."""

    def parameters(client: InstrumentClient, arguments: dict[str, Any]) -> dict[str, Any]:
        lost = arguments.pop("on_lease_loss", client.on_lease_loss)
        if name == "scan_line":
            arguments["positions"] = _positions(client.capabilities, *map(arguments.pop, _LINE))
        request = request_from_dict(kind, arguments)
        return {"kind": kind, "request": request.to_dict(), "on_lease_loss": lost}

    loss = choice(ON_LEASE_LOSS, "what becomes of it when you lose control or fall silent; has a fitting default")
    takes = takes | {"properties": takes["properties"] | {"on_lease_loss": loss}}
    text += " Returns a job at once: wait for it, then look at its summary, picture and data."
    return _tool(name, text, takes, verb="acquire", parameters=parameters, destructive=True, idempotent=False)


# ---------------------------------------------------------------------- what they do


def _take(client: InstrumentClient, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
    del report
    purpose = str(arguments["purpose"])
    if not _is_dry_run(arguments):
        client.control.take(purpose)
        return {"dry_run": False, "over": True}
    wanted = {"purpose": purpose, "duration": client.control.DURATION}
    return _dry_run(None if client.control.held else client.why_not("acquire_lease", wanted))


def _release(client: InstrumentClient, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
    del report
    if _is_dry_run(arguments):
        return _dry_run(client.why_not("release_lease", {}))
    client.control.release()
    return {"dry_run": False, "over": True}


def _is_dry_run(arguments: dict[str, Any]) -> bool:
    return _checks.flag("dry_run", arguments.pop("dry_run", False))


def _dry_run(error: TwinscopeError | None) -> dict[str, Any]:
    return {"dry_run": True, "would_be_done": error is None} | ({} if error is None else {"why_not": error.to_dict()})


def _why_not(
    client: InstrumentClient, verb: str, parameters: _Parameters, arguments: dict[str, Any]
) -> TwinscopeError | None:
    try:
        return client.why_not(verb, parameters(client, arguments))
    except InvalidRequestError as exc:
        return exc


def _begun(client: InstrumentClient, verb: str, answer: Mapping[str, Any] | None) -> dict[str, Any]:
    """Tell what was begun; of what is over soon, that it is, and what went wrong with it is raised."""
    if answer is None:
        return {"dry_run": False, "over": True}
    if verb == "acquire":
        progress = client.job(answer["progress"]["id"])
    elif verb in _DIRECTING:
        progress = client.job(answer["id"])
    else:
        progress = succeeded(client.job(answer["id"], _PATIENCE))
    return {"dry_run": False, "job": progress["id"], "state": progress["state"], "over": progress["over"]}
