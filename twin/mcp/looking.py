"""The tools that look: at the instrument, at what happens, and at what was measured."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinscope import _checks
from twinscope.capabilities import ACQUISITIONS, Capabilities
from twinscope.errors import InvalidRequestError, TwinscopeError
from twinscope.mcp.instrument_client import InstrumentClient
from twinscope.mcp.results import STATISTICS, brief, excerpt, statistics, summary
from twinscope.mcp.tools import (
    FLAG,
    INTEGER,
    MAYBE_NUMBER,
    MAYBE_OBJECT,
    MAYBE_TEXT,
    NUMBER,
    OBJECT,
    TEXT,
    Picture,
    Report,
    Tool,
    listed,
    opened,
)
from twinscope.plotting import save_picture
from twinscope.schemas import COUNT, Schema, choice, closed
from twinscope.state import JobState

# Hosts give a call up after a minute, some of them.
_LONGEST_WAIT = 50.0
# In s, between two reports on how far something is.
_STEP = 1.0
_MOST_VALUES = 4096
_MOST_ENTRIES = 200

PROGRESS = opened({"id": TEXT, "verb": TEXT, "state": TEXT, "elapsed": NUMBER, "error": MAYBE_OBJECT, "over": FLAG})
"""How far a job is; of an acquisition also traces_done, traces_total and warnings."""


def looking_tools(capabilities: Capabilities) -> list[Tool]:
    """List the tools that change nothing."""
    return [
        Tool(
            "capabilities",
            "Tell what the instrument can do: channels, signals, limits, features, settings. SI units everywhere.",
            closed({}),
            opened({"instrument": TEXT, "simulated": FLAG, "channels": listed(OBJECT), "limits": OBJECT}),
            _capabilities,
        ),
        Tool(
            "state",
            "Tell what the instrument is doing, where its tip is (m), who has control, and whether it is blocked.",
            closed({}),
            opened(
                {"status": TEXT, "tip": TEXT, "position": MAYBE_OBJECT, "job": MAYBE_TEXT, "you_have_control": FLAG}
            ),
            _state,
        ),
        Tool(
            "signals",
            "Tell the value of every signal, its unit, and the range in which it can be set.",
            closed({}),
            opened({"time": NUMBER, "signals": listed(opened({"name": TEXT, "unit": TEXT, "value": MAYBE_NUMBER}))}),
            _signals,
        ),
        Tool(
            "jobs",
            "List what was done lately, motions included, the latest last.",
            closed({"limit": _limit(20)}),
            opened({"jobs": listed(OBJECT)}),
            _jobs,
        ),
        Tool("progress", "Tell how far a job is.", closed({"id": _ID}, ["id"]), PROGRESS, _progress),
        Tool(
            "wait",
            "Wait for a job to end, at most the time given, and tell how far it is: over says whether it has ended. If"
            " it has not, call wait again. A job that failed or was aborted is an error.",
            closed({"id": _ID, "timeout": _seconds(_LONGEST_WAIT, 20.0)}, ["id"]),
            PROGRESS,
            _wait,
        ),
        Tool(
            "find",
            "Find acquisitions in the instrument's catalogue, the latest first.",
            _criteria(capabilities),
            opened({"acquisitions": listed(OBJECT)}),
            _find,
        ),
        Tool(
            "events",
            "Tell what has happened since a cursor, waiting for something if asked to. Without a cursor, get the one"
            " for what comes from now on. missed counts what is gone; null if the instrument was started anew since.",
            closed(
                {
                    "cursor": closed({"run": TEXT, "number": INTEGER}, ["run", "number"]),
                    "timeout": _seconds(_LONGEST_WAIT, 0.0),
                    "limit": _limit(50),
                }
            ),
            opened({"cursor": OBJECT, "events": listed(OBJECT), "missed": {"type": ["integer", "null"]}}),
            _events,
        ),
        *_measured_tools(),
    ]


def _measured_tools() -> list[Tool]:
    channel = TEXT | {"description": "as summary names it; the first unless given"}
    numbers = dict.fromkeys(STATISTICS, MAYBE_NUMBER)
    recorded = opened({"name": TEXT, "unit": TEXT, "quantity": TEXT, "shape": listed(INTEGER), **numbers})
    window = {"type": "array", "items": listed(INTEGER), "description": "[start, stop) of each axis; all unless given"}
    most = COUNT | {"maximum": _MOST_VALUES, "default": 400, "description": "values at most"}
    return [
        Tool(
            "summary",
            "Tell what an acquisition measured up to now: statistics of each channel, warnings, the file's name.",
            closed({"id": _ID}, ["id"]),
            opened({"id": TEXT, "state": TEXT, "warnings": listed(TEXT), "channels": listed(recorded)}),
            _summary,
        ),
        Tool(
            "picture",
            "Draw one channel of an acquisition, as far as it was measured.",
            closed({"id": _ID, "channel": channel}, ["id"]),
            recorded,
            _picture,
        ),
        Tool(
            "data",
            "Return numbers of one channel of an acquisition, every stride-th along each axis so that they are not too"
            " many; give a window for a part in full. null is where nothing was measured.",
            closed({"id": _ID, "channel": channel, "window": window, "most": most}, ["id"]),
            opened({"name": TEXT, "unit": TEXT, "shape": listed(INTEGER), "stride": INTEGER, "values": listed({})}),
            _data,
        ),
    ]


# ---------------------------------------------------------------------- what they take

_ID = TEXT | {"description": "of a job, as the tool that began it, jobs or find tell it"}


def _limit(default: int) -> Schema:
    return COUNT | {"maximum": _MOST_ENTRIES, "default": default, "description": "entries at most"}


def _seconds(most: float, default: float) -> Schema:
    return {"type": "number", "minimum": 0, "maximum": most, "default": default, "description": "s"}


def _criteria(capabilities: Capabilities) -> Schema:
    return closed(
        {
            "kind": choice(ACQUISITIONS, "what it is"),
            "state": choice([state.value for state in JobState] + ["interrupted"], "how it ended"),
            "channel": choice([channel.name for channel in capabilities.channels], "that was recorded"),
            "operator": TEXT | {"description": "who began it"},
            "purpose": TEXT | {"description": "a part of it"},
            "since": TEXT | {"description": "begun then or later, in ISO 8601"},
            "until": TEXT | {"description": "begun before, in ISO 8601"},
            "within": listed(NUMBER)
            | {"minItems": 4, "maxItems": 4, "description": "x0, y0, x1, y1 in m: overlaps it"},
            "limit": _limit(20),
            "offset": {"type": "integer", "minimum": 0, "default": 0, "description": "leave out so many"},
        }
    )


def _checked_limit(arguments: Mapping[str, Any], name: str, default: int, most: int) -> int:
    number = _checks.count(name, arguments.get(name, default))
    if number > most:
        raise InvalidRequestError(f"{name} is {number}: expected at most {most}", name=name)
    return number


def _checked_timeout(arguments: Mapping[str, Any], default: float) -> float:
    timeout = _checks.not_negative("timeout", arguments.get("timeout", default))
    if timeout > _LONGEST_WAIT:
        raise InvalidRequestError(f"timeout is {timeout} s: expected at most {_LONGEST_WAIT:.0f} s, call again then")
    return timeout


# ---------------------------------------------------------------------- the instrument


def _capabilities(client: InstrumentClient, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
    del arguments, report
    return client.capabilities.to_dict()


def _state(client: InstrumentClient, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
    del arguments, report
    state: dict[str, Any] = client.ask("state")
    held = state["lease"]
    return state | {"you_have_control": held is not None and held["number"] == client.control.lease}


def _signals(client: InstrumentClient, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
    del arguments, report
    state, capabilities = client.ask("state"), client.capabilities
    signals = []
    for signal in capabilities.signals:
        one: dict[str, Any] = {"name": signal.name, "unit": signal.unit, "quantity": signal.quantity}
        one["value"] = state["signals"].get(signal.name)
        if signal.name in capabilities.settable:
            limits = capabilities.limits[signal.name]
            one |= {"lowest": limits.low, "highest": limits.high}
        signals.append(one)
    return {"time": state["time"], "feedback": state["feedback"], "signals": signals}


def _jobs(client: InstrumentClient, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
    del report
    limit = _checked_limit(arguments, "limit", 20, _MOST_ENTRIES)
    return {"jobs": client.ask("jobs")[-limit:]}


def _find(client: InstrumentClient, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
    del report
    limit = _checked_limit(arguments, "limit", 20, _MOST_ENTRIES)
    return {"acquisitions": brief(client.ask("find", criteria=arguments | {"limit": limit}))}


def _events(client: InstrumentClient, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
    limit = _checked_limit(arguments, "limit", 50, _MOST_ENTRIES)
    timeout = _checked_timeout(arguments, 0.0)
    deadline = time.monotonic() + timeout
    while True:
        left = max(deadline - time.monotonic(), 0.0)
        answer: dict[str, Any] = client.ask("events", cursor=arguments.get("cursor"), timeout=min(left, _STEP))
        if answer["events"] or left == 0 or "cursor" not in arguments:
            break
        report(timeout - left, timeout, "nothing has happened yet")
    if len(answer["events"]) > limit:
        answer["events"] = answer["events"][:limit]
        answer["cursor"]["number"] = answer["events"][-1]["number"]
    return answer


# ---------------------------------------------------------------------- jobs


def _progress(client: InstrumentClient, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
    del report
    return client.job(arguments["id"])


def _wait(client: InstrumentClient, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
    deadline = time.monotonic() + _checked_timeout(arguments, 20.0)
    while True:
        left = max(deadline - time.monotonic(), 0.0)
        progress = client.job(arguments["id"], min(left, _STEP))
        if progress["over"]:
            return succeeded(progress)
        report(progress.get("traces_done", progress["elapsed"]), progress.get("traces_total"), progress["state"])
        if left == 0:
            return progress


def succeeded(progress: dict[str, Any]) -> dict[str, Any]:
    """Return the progress of a job, or raise what went wrong with it; the error names the job."""
    if progress["error"] is not None:
        error = TwinscopeError.from_dict(progress["error"])
        error.details |= {"job": progress["id"], "state": progress["state"]}
        raise error
    return progress


# ---------------------------------------------------------------------- what was measured


def _summary(client: InstrumentClient, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
    del report
    return summary(client.acquisition(arguments["id"]).partial())


def _picture(client: InstrumentClient, arguments: dict[str, Any], report: Report) -> Picture:
    del report
    measurement = client.acquisition(arguments["id"]).partial()
    channel = arguments.get("channel", next(iter(measurement)))
    about = statistics(measurement[channel])
    with tempfile.TemporaryDirectory() as folder:
        png = save_picture(measurement, Path(folder) / "picture.png", channel).read_bytes()
    return Picture(png, about)


def _data(client: InstrumentClient, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
    del report
    most = _checked_limit(arguments, "most", 400, _MOST_VALUES)
    measurement = client.acquisition(arguments["id"]).partial()
    channel = arguments.get("channel", next(iter(measurement)))
    return excerpt(measurement[channel], arguments.get("window"), most)
