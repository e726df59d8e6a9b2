"""What each verb takes that changes something, as JSON Schema: for language models, forms and action spaces.

A schema says what an instrument can do at all: names, limits, units. What it may do now depends on its state and its
interlocks; a dry run tells. Conditions stand in ``if`` and ``else``, as some hosts of language models refuse schemas
with ``oneOf``, ``anyOf`` or ``allOf`` at the top.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from twinscope.capabilities import Capabilities, Limits
from twinscope.requests import PathRequest, ScanFrame, ScanRequest, SpectroscopyRequest, setpoint_of
from twinscope.state import FEEDBACK_OFF

Schema = dict[str, Any]

_ENDS = ("start", "stop")

POSITIVE = {"type": "number", "exclusiveMinimum": 0}
COUNT = {"type": "integer", "minimum": 1}


def verb_schemas(capabilities: Capabilities) -> dict[str, Schema]:
    """Describe what the verbs of an instrument take.

    Parameters
    ----------
    capabilities
        Of the instrument: what it cannot do is left out.

    Returns
    -------
    dict
        A JSON Schema (2020-12) of an object for each of "move_to", "withdraw", "approach" and, where the instrument can
        do it, "set_signal", "set_feedback", "coarse_move", "pulse", "shape_tip", "exchange_tip", and the kinds of
        acquisitions "scan", "path" and "spectroscopy", which take what :func:`~twinscope.requests.request_from_dict`
        does. What is None there is left out here.
    """
    verbs = {"move_to": _move_to(capabilities), "withdraw": closed({}), "approach": closed({})}
    if capabilities.settable:
        verbs["set_signal"] = _set_signal(capabilities)
    if capabilities.feedback_modes:
        modes = [*capabilities.feedback_modes, FEEDBACK_OFF]
        verbs["set_feedback"] = closed(
            {"mode": choice(modes, "what the z-controller holds constant; off leaves the tip where it is")}, ["mode"]
        )
    for feature, (verb, describe) in _FEATURES.items():
        if feature in capabilities.features:
            verbs[verb] = describe(capabilities)
    return verbs | {kind: _ACQUISITIONS[kind](capabilities) for kind in capabilities.acquisitions}


# ---------------------------------------------------------------------- pieces


def closed(properties: Mapping[str, Any], required: Iterable[str] = (), **rules: Any) -> Schema:
    """Describe an object that has these properties and no others."""
    described = {"type": "object", "properties": dict(properties), "required": list(required)}
    return described | {"additionalProperties": False} | rules


def choice(values: Iterable[str], text: str) -> Schema:
    """Describe one of several words."""
    return {"type": "string", "enum": list(values), "description": text}


def point(limits: Mapping[str, Limits], text: str) -> Schema:
    """Describe a place (x, y) on the sample."""
    ends = [_within(limits[axis]) for axis in ("x", "y")]
    return _pair(ends, f"{text}: x from {_range(limits['x'])}, y from {_range(limits['y'])}")


def _pair(elements: list[Schema], text: str) -> Schema:
    # `items` is for those who do not know `prefixItems`.
    kind = {"type": elements[0]["type"]}
    return {
        "type": "array",
        "prefixItems": elements,
        "items": kind,
        "minItems": len(elements),
        "maxItems": len(elements),
        "description": text,
    }


def _within(limits: Limits) -> Schema:
    return {"type": "number", "minimum": limits.low, "maximum": limits.high}


def _range(limits: Limits) -> str:
    unit = "" if limits.unit == "1" else f" {limits.unit}"
    return f"{limits.low:.6g} to {limits.high:.6g}{unit}"


def _number(limits: Limits, text: str) -> Schema:
    return _within(limits) | {"description": f"{text}, {_range(limits)}"}


def _cases(name: str, cases: Mapping[str, Schema], otherwise: Schema | bool) -> Schema:
    """Let what else is allowed depend on the value of a property."""
    rules: Schema | bool = otherwise
    for value, rule in reversed(list(cases.items())):
        rules = {"if": {"properties": {name: {"const": value}}, "required": [name]}, "then": rule, "else": rules}
    return rules if cases and isinstance(rules, dict) else {}


def _request(cls: type, described: Mapping[str, Schema], rules: Schema) -> Schema:
    """Describe a request of which the dataclass knows what may be left out, and what that means."""
    properties, required = {}, []
    for field in fields(cls):
        known = described.get(field.name)
        if known is None:
            continue
        if field.default is MISSING:
            required.append(field.name)
        elif field.default is not None:
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            known = known | {"default": default}
        properties[field.name] = known
    return closed(properties, required, **rules)


# ---------------------------------------------------------------------- moving and setting


def _move_to(capabilities: Capabilities) -> Schema:
    limits = capabilities.limits
    texts = {"x": "where to", "y": "where to", "z": "height; leave it out while the z-controller is on"}
    properties = {axis: _number(limits[axis], text) for axis, text in texts.items()}
    if "speed" in limits:
        properties["speed"] = _number(limits["speed"], "at most so fast")
    else:
        properties["speed"] = POSITIVE | {"description": "at most so fast, in m/s"}
    needs_y_or_z = _unless("x", _unless("y", {"required": ["z"]}))
    return closed(properties, **needs_y_or_z)


def _unless(name: str, rule: Schema) -> Schema:
    return {"if": {"not": {"required": [name]}}, "then": rule}


def _set_signal(capabilities: Capabilities) -> Schema:
    limits = {name: capabilities.limits[name] for name in capabilities.settable}
    ranges = "; ".join(f"{name}: {_range(one)}" for name, one in limits.items())
    properties = {
        "name": choice(limits, "which signal"),
        "value": {"type": "number", "description": f"in its unit. {ranges}"},
        "rate": POSITIVE | {"description": "in its unit per second; at once unless given"},
    }
    cases = {name: {"properties": {"value": _within(one)}} for name, one in limits.items()}
    return closed(properties, ["name", "value"], **_cases("name", cases, otherwise=False))


def _coarse_move(capabilities: Capabilities) -> Schema:
    steps = _number(capabilities.limits_of("coarse_steps"), "not zero; along z, positive steps go away from the sample")
    properties = {
        "axis": choice(("x", "y", "z"), "of the coarse motor"),
        "steps": steps | {"type": "integer", "not": {"const": 0}},
    }
    return closed(properties, properties)


def _pulse(capabilities: Capabilities) -> Schema:
    properties = {
        "voltage": _number(capabilities.limits_of("pulse_voltage"), "bias during the pulse"),
        "duration": _number(capabilities.limits_of("pulse_duration"), "how long") | {"exclusiveMinimum": 0},
    }
    return closed(properties, properties)


def _shape_tip(capabilities: Capabilities) -> Schema:
    depth = _number(capabilities.limits_of("tip_shaping_depth"), "how much deeper than it is")
    properties = {
        "depth": depth | {"exclusiveMinimum": 0},
        "voltage": _number(capabilities.limits_of("tip_shaping_voltage"), "bias meanwhile") | {"default": 0.0},
    }
    return closed(properties, ["depth"])


def _exchange_tip(capabilities: Capabilities) -> Schema:
    properties = {"probe": choice(capabilities.probes, "what to put at the end of the tip")}
    return closed(properties, properties)


# ---------------------------------------------------------------------- acquiring


def _channels(capabilities: Capabilities) -> Schema:
    recorded = "; ".join(f"{channel.name}: {channel.quantity} ({channel.unit})" for channel in capabilities.channels)
    return {
        "type": "array",
        "items": {"type": "string", "enum": [channel.name for channel in capabilities.channels]},
        "minItems": 1,
        "uniqueItems": True,
        "description": f"what to record. {recorded}. At most {capabilities.most_values} values in all",
    }


def _positions(capabilities: Capabilities) -> Schema:
    return {
        "type": "array",
        "items": point(capabilities.limits, "a place on the sample"),
        "minItems": 1,
        "description": "places (x, y), in m, in their order",
    }


def _z_mode(capabilities: Capabilities) -> Schema:
    properties = {"z_mode": choice(capabilities.scan_modes, "constant height, or what the z-controller holds constant")}
    setpoints = {setpoint_of(mode): capabilities.limits.get(setpoint_of(mode)) for mode in capabilities.feedback_modes}
    ranges = "; ".join(f"{name}: {_range(limits)}" for name, limits in setpoints.items() if limits is not None)
    if ranges:
        text = f"of the z-controller, only with a z_mode that has one; its present one unless given. {ranges}"
        properties["setpoint"] = {"type": "number", "description": text}
    return properties


def _z_mode_rules(capabilities: Capabilities, heights: str) -> Schema:
    """Let a z-controller exclude given heights, and give its setpoint the range of its signal."""
    cases = {}
    for mode in capabilities.feedback_modes:
        name = setpoint_of(mode)
        setpoint = _within(capabilities.limits[name]) if name in capabilities.settable else False
        cases[mode] = {"properties": {heights: False, "setpoint": setpoint}}
    return _cases("z_mode", cases, otherwise={"properties": {"setpoint": False}})


def _frame(limits: Mapping[str, Limits]) -> Schema:
    # However it is turned, no frame that lies within the range is longer than the diagonal.
    side = POSITIVE | {"maximum": math.hypot(*(limits[axis].high - limits[axis].low for axis in ("x", "y")))}
    properties = {
        "size": _pair([side, side], "width and height, in m; all corners must be within the range of x and y"),
        "center": point(limits, "its middle, in m"),
        "angle": {"type": "number", "description": "in degrees, counter-clockwise"},
    }
    return _request(ScanFrame, properties, {"description": "where to look"})


def _scan(capabilities: Capabilities) -> Schema:
    height = _number(capabilities.limits["z"], "height of the tip")
    described = {
        "frame": _frame(capabilities.limits),
        "pixels": _pair([COUNT, COUNT], "along the fast and the slow axis"),
        "channels": _channels(capabilities),
        "heights": {
            "type": "array",
            "items": height,
            "minItems": 1,
            "description": "one image at each of these constant heights; unless given, one at the present height",
        },
        "direction": choice(("forward", "backward", "both"), "which way of the fast axis is recorded"),
        "slow_direction": choice(("up", "down"), "from the bottom row up, or from the top row down"),
        "line_time": POSITIVE | {"description": "s per line and direction"},
        **_z_mode(capabilities),
    }
    return _request(ScanRequest, described, _z_mode_rules(capabilities, "heights"))


def _path(capabilities: Capabilities) -> Schema:
    described = {
        "positions": _positions(capabilities),
        "channels": _channels(capabilities),
        "passes": COUNT | {"description": "how often along the path, or samples at each separate point"},
        "separate": {"type": "boolean", "description": "points, between which the tip is lifted, and no path"},
        "lift": {"type": "number", "minimum": 0, "description": "m up between separate points"},
        "height": _number(capabilities.limits["z"], "of the tip; its present one unless given"),
        "point_time": POSITIVE | {"description": "s per point"},
        **_z_mode(capabilities),
    }
    return _request(PathRequest, described, _z_mode_rules(capabilities, "height"))


def _spectroscopy(capabilities: Capabilities) -> Schema:
    limits = {swept: capabilities.limits[swept] for swept in capabilities.sweeps}
    ranges = "; ".join(f"{swept}: {_range(one)}" for swept, one in limits.items())
    ends = {end: {"type": "number", "description": f"in the unit of what is swept. {ranges}"} for end in _ENDS}
    described = {
        "swept": choice(limits, "what is stepped through"),
        "positions": _positions(capabilities),
        "sweep": closed(ends | {"points": {"type": "integer", "minimum": 2}}, [*_ENDS, "points"]),
        "channels": _channels(capabilities),
        "height": _number(capabilities.limits["z"], "of the tip while the bias is swept; its present one unless given"),
        "point_time": POSITIVE | {"description": "s per point"},
    }
    cases: dict[str, Schema] = {}
    for swept, one in limits.items():
        sweep = {"properties": {end: _within(one) for end in _ENDS}}
        cases[swept] = {"properties": {"sweep": sweep} | ({"height": False} if swept == "z" else {})}
    return _request(SpectroscopyRequest, described, _cases("swept", cases, otherwise=False))


_FEATURES = {
    "coarse_motion": ("coarse_move", _coarse_move),
    "pulse": ("pulse", _pulse),
    "tip_shaping": ("shape_tip", _shape_tip),
    "tip_exchange": ("exchange_tip", _exchange_tip),
}
_ACQUISITIONS = {"scan": _scan, "path": _path, "spectroscopy": _spectroscopy}
