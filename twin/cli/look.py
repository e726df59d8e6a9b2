"""The commands that look at an instrument: they take no control and disturb nobody."""

import argparse
import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from twinscope.cli.options import (
    AddCommand,
    add_address_options,
    connect,
    follow,
    numbers,
    plain_text,
    quantity,
    transport_of,
)

if TYPE_CHECKING:
    from twinscope.capabilities import Capabilities
    from twinscope.events import Event
    from twinscope.state import InstrumentState

_CRITERIA = ("kind", "state", "channel", "operator", "purpose", "since", "until")


def status(options: argparse.Namespace) -> int:
    """Print what an instrument is doing."""
    from twinscope.microscope import Microscope

    transport = transport_of(options)
    with Microscope(transport=transport) as scope:
        hello, state, capabilities = transport.call("hello").result, scope.state(), scope.capabilities()
    lines = {
        "instrument": capabilities.instrument,
        "driver": f"{capabilities.driver} {capabilities.driver_version}",
        "your role": f"{hello['role']} ({hello['identity']})",
        **_what_it_does(state, capabilities),
        "channels": ", ".join(f"{channel.name} ({channel.unit})" for channel in capabilities.channels),
    }
    for name in ("x", "y", "z"):
        limits = capabilities.limits[name]
        lines[f"range of {name}"] = quantity(limits.unit, limits.low, limits.high)
    for label, text in lines.items():
        print(f"{label:<12} {text}")
    return 0


def watch(options: argparse.Namespace) -> int:
    """Follow the acquisition in progress, without holding the instrument."""
    with connect(options) as scope:
        acquisition = scope.current_acquisition()
        if acquisition is None:
            print("nothing has been acquired yet")
            return 0
        follow(acquisition)
        print(f"{acquisition.id}: {acquisition.progress().state}")
    return 0


def events(options: argparse.Namespace) -> int:
    """Print what happens from now on, until Ctrl-C."""
    from twinscope.microscope import Missed

    with connect(options) as scope:
        for event in scope.events(options.timeout):
            if isinstance(event, Missed):
                count = "an unknown number of" if event.count is None else event.count
                print(f"{count} events are gone: the connection was lost for too long", flush=True)
            elif not options.kind or event.kind in options.kind:
                print(_event_text(event, as_json=options.json), flush=True)
    return 0


def jobs(options: argparse.Namespace) -> int:
    """List what the instrument has done lately, motions included."""
    with connect(options) as scope:
        for job in scope.jobs():
            print(json.dumps(job) if options.json else _job_text(job))
    return 0


def find(options: argparse.Namespace) -> int:
    """List the acquisitions in a server's catalogue, the latest first."""
    criteria = {name: getattr(options, name) for name in (*_CRITERIA, "within", "limit")}
    with connect(options) as scope:
        found = scope.find(**{name: value for name, value in criteria.items() if value is not None})
    for one in found:
        print(json.dumps(one) if options.json else _acquisition_text(one))
    return 0


def add_commands(add: AddCommand) -> None:
    """Add the commands of this module."""
    add_address_options(add("status", status))
    add_address_options(add("watch", watch))

    sub = add("events", events)
    sub.add_argument("--kind", action="append", help="only these, such as job or trip; repeatable")
    sub.add_argument("--timeout", type=float, metavar="S", help="end after so many seconds without an event")
    _add_json_option(sub)
    add_address_options(sub)

    sub = add("jobs", jobs)
    _add_json_option(sub)
    add_address_options(sub)

    sub = add("find", find)
    for name, text in (
        ("kind", "scan, path or spectroscopy"),
        ("state", "done, aborted, failed, interrupted, ..."),
        ("channel", "that was recorded"),
        ("operator", "who began it"),
        ("purpose", "a part of it"),
        ("since", "begun then or later, in ISO 8601"),
        ("until", "begun before, in ISO 8601"),
    ):
        sub.add_argument(f"--{name}", help=text)
    sub.add_argument("--within", type=_box, metavar="X0,Y0,X1,Y1", help="that overlaps this rectangle, in nm")
    sub.add_argument("--limit", type=int, help="at most so many (100)")
    _add_json_option(sub)
    add_address_options(sub)


def _add_json_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="for programs: one JSON object a line")


def _box(text: str) -> list[float]:
    return [edge * 1e-9 for edge in numbers(text, ",", (4,), "-2,-2,2,2")]


# ---------------------------------------------------------------------- texts


def _what_it_does(state: "InstrumentState", capabilities: "Capabilities") -> dict[str, str]:
    lines = {"status": state.status + (f": {state.error}" if state.error else "")}
    if state.blocked is not None:
        lines["blocked"] = state.blocked
    lines["tip"] = state.tip if state.probe is None else f"{state.tip}, with {state.probe}"
    if state.position is not None:
        x, y, z = (value * 1e9 for value in (state.position.x, state.position.y, state.position.z))
        lines["position"] = f"x {x:.4f} nm, y {y:.4f} nm, z {z:.4f} nm"
    units = {signal.name: signal.unit for signal in capabilities.signals}
    held = state.lease
    return lines | {
        "feedback": state.feedback,
        "signals": ", ".join(f"{name} {quantity(units[name], value)}" for name, value in state.signals.items()),
        "time": f"{state.time:.3f} s",
        "held by": "nobody" if held is None else f"{held['holder']} {held['purpose']}",
        "job": state.job or "none",
        "acquisition": state.acquisition or "none",
    }


def _event_text(event: "Event", *, as_json: bool) -> str:
    if as_json:
        return json.dumps({"n": event.number, "time": event.time, "kind": event.kind, "data": dict(event.data)})
    time = datetime.fromtimestamp(event.time).astimezone().isoformat(sep=" ", timespec="milliseconds")
    return f"{time}  {event.kind:<8} {plain_text(event.data)}"


def _job_text(job: Mapping[str, Any]) -> str:
    lines = f", {job['traces_done']} of {job['traces_total']} lines" if "traces_total" in job else ""
    error = f": {job['error']['message']}" if job["error"] else ""
    return f"{job['id']}  {job['state']}, {job['elapsed']:.1f} s{lines}{error}"


def _acquisition_text(one: Mapping[str, Any]) -> str:
    place = f"at {one['x'] * 1e9:.2f}, {one['y'] * 1e9:.2f} nm"
    return f"{one['id']}  {one['state']:<11} {place}  {', '.join(one['channels'])}  {one['purpose'] or ''}".rstrip()
