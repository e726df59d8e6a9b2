"""The JSON Schemas of the verbs: they say what the instrument does, no more and no less than it can."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import twinscope
from twinscope.capabilities import Capabilities
from twinscope.errors import InvalidRequestError
from twinscope.requests import PathRequest, ScanFrame, ScanRequest, SpectroscopyRequest, Sweep, request_from_dict
from twinscope.schemas import verb_schemas

FRAME = {"size": [1e-8, 1e-8]}
SCAN = {"frame": FRAME, "pixels": [4, 4], "channels": ["at_x"]}
PATH = {"positions": [[0, 0], [1e-9, 1e-9]], "channels": ["at_z"]}
SPECTRA = {
    "positions": [[0, 0]],
    "channels": ["at_z"],
    "swept": "z",
    "sweep": {"start": 1e-9, "stop": 2e-9, "points": 5},
}

# Each is given to the instrument, which must be of the opinion of the schema.
FITTING = [
    ("move_to", {"x": 1e-9}),
    ("move_to", {"y": -1e-6, "z": 1e-6, "speed": 1e-9}),
    ("move_to", {"z": 5e-9}),
    ("set_signal", {"name": "bias", "value": -10}),
    ("set_signal", {"name": "setpoint_current", "value": 1e-8, "rate": 1e-9}),
    ("set_feedback", {"mode": "off"}),
    ("set_feedback", {"mode": "constant_current"}),
    ("withdraw", {}),
    ("approach", {}),
    ("coarse_move", {"axis": "z", "steps": 1000}),
    ("pulse", {"voltage": 3, "duration": 0.01}),
    ("shape_tip", {"depth": 1e-9}),
    ("shape_tip", {"depth": 1e-9, "voltage": -10}),
    ("exchange_tip", {"probe": "Xe"}),
    ("scan", SCAN),
    ("scan", SCAN | {"heights": [1e-9, 2e-9], "direction": "both", "slow_direction": "down", "line_time": 0.5}),
    ("scan", SCAN | {"z_mode": "constant_current", "setpoint": 1e-10}),
    (
        "scan",
        SCAN | {"frame": {"size": [1.9e-6, 1e-9], "center": [0, 1e-9], "angle": 30.0}, "z_mode": "constant_height"},
    ),
    ("path", PATH),
    ("path", PATH | {"separate": True, "lift": 1e-9, "passes": 3, "height": 2e-9, "point_time": 0.1}),
    ("path", PATH | {"z_mode": "constant_current"}),
    ("spectroscopy", SPECTRA),
    ("spectroscopy", SPECTRA | {"swept": "bias", "sweep": {"start": -10, "stop": 10, "points": 2}, "height": 1e-9}),
]
WRONG = [
    ("move_to", {}),
    ("move_to", {"speed": 1e-9}),
    ("move_to", {"x": 2e-6}),
    ("move_to", {"x": "1e-9"}),
    ("move_to", {"x": True}),
    ("move_to", {"x": 1e-9, "speed": 1.0}),
    ("move_to", {"x": 1e-9, "w": 1}),
    ("set_signal", {"name": "bias", "value": 10.5}),
    ("set_signal", {"name": "setpoint_current", "value": 0.5}),
    ("set_signal", {"name": "current", "value": 1e-12}),
    ("set_signal", {"name": "bias"}),
    ("set_signal", {"name": "bias", "value": 1, "rate": 0}),
    ("set_feedback", {"mode": "constant_height"}),
    ("set_feedback", {"mode": "constant_frequency_shift"}),
    ("withdraw", {"z": 1}),
    ("coarse_move", {"axis": "w", "steps": 1}),
    ("coarse_move", {"axis": "x", "steps": 0}),
    ("coarse_move", {"axis": "x", "steps": 1.5}),
    ("coarse_move", {"axis": "x", "steps": 1001}),
    ("pulse", {"voltage": 11, "duration": 0.01}),
    ("pulse", {"voltage": 1, "duration": 0}),
    ("pulse", {"voltage": 1}),
    ("shape_tip", {"depth": 0}),
    ("shape_tip", {"depth": 1e-9, "voltage": 11}),
    ("exchange_tip", {}),
    ("exchange_tip", {"probe": "C60"}),
    ("scan", SCAN | {"channels": ["topography"]}),
    ("scan", SCAN | {"channels": []}),
    ("scan", SCAN | {"channels": ["at_x", "at_x"]}),
    ("scan", SCAN | {"pixels": [4]}),
    ("scan", SCAN | {"pixels": [4, 0]}),
    ("scan", SCAN | {"frame": {"size": [0, 1e-9]}}),
    ("scan", SCAN | {"frame": {"size": [3e-6, 1e-9]}}),
    ("scan", SCAN | {"frame": FRAME | {"center": [0, 2e-6]}}),
    ("scan", SCAN | {"frame": FRAME | {"tilt": 1}}),
    ("scan", SCAN | {"heights": [2e-6]}),
    ("scan", SCAN | {"heights": []}),
    ("scan", SCAN | {"setpoint": 1e-10}),
    ("scan", SCAN | {"z_mode": "constant_height", "setpoint": 1e-10}),
    ("scan", SCAN | {"z_mode": "constant_current", "setpoint": 1.0}),
    ("scan", SCAN | {"z_mode": "constant_current", "heights": [1e-9]}),
    ("scan", SCAN | {"z_mode": "constant_frequency_shift"}),
    ("scan", SCAN | {"direction": "sideways"}),
    ("scan", SCAN | {"line_time": 0}),
    ("scan", {"frame": FRAME, "pixels": [4, 4]}),
    ("path", PATH | {"positions": []}),
    ("path", PATH | {"positions": [[0, 2e-6]]}),
    ("path", PATH | {"positions": [[0, 0, 0]]}),
    ("path", PATH | {"passes": 0}),
    ("path", PATH | {"lift": -1e-9}),
    ("path", PATH | {"height": 1e-9, "z_mode": "constant_current"}),
    ("spectroscopy", SPECTRA | {"swept": "current"}),
    ("spectroscopy", SPECTRA | {"height": 1e-9}),
    ("spectroscopy", SPECTRA | {"sweep": {"start": 1e-9, "stop": 2e-6, "points": 5}}),
    ("spectroscopy", SPECTRA | {"swept": "bias", "sweep": {"start": 0, "stop": 11, "points": 5}}),
    ("spectroscopy", SPECTRA | {"sweep": {"start": 0, "stop": 1e-9, "points": 1}}),
    ("spectroscopy", SPECTRA | {"sweep": {"start": 0, "stop": 1e-9}}),
]


@pytest.fixture
def allowing(instrument: Callable[..., Any]) -> Any:
    """A microscope that allows everything that it can do, with its tip withdrawn for coarse motion."""
    from twinscope.local import LocalTransport

    with twinscope.Microscope(
        transport=LocalTransport(instrument(allow=["pulse", "tip_shaping", "tip_exchange"]))
    ) as scope:
        yield scope


def refusal(scope: twinscope.Microscope, verb: str, arguments: dict[str, Any]) -> Exception | None:
    """What the instrument says against it."""
    try:
        if verb in ("scan", "path", "spectroscopy"):
            scope.check("acquire", request=request_from_dict(verb, arguments))
        else:
            scope.check(verb, **arguments)
    except InvalidRequestError as exc:
        return exc
    return None


def test_the_instrument_and_the_schemas_are_of_one_opinion(allowing: twinscope.Microscope) -> None:
    schemas = verb_schemas(allowing.capabilities())
    validators = {verb: Draft202012Validator(schema) for verb, schema in schemas.items()}
    assert {verb for verb, _ in FITTING} == {verb for verb, _ in WRONG} | {"approach"} == set(schemas)
    with allowing.control():
        for verb, arguments in FITTING:
            if verb == "coarse_move":
                continue
            assert refusal(allowing, verb, arguments) is None, (verb, arguments)
            assert validators[verb].is_valid(arguments), (verb, arguments)
        for verb, arguments in WRONG:
            assert refusal(allowing, verb, arguments) is not None, (verb, arguments)
            assert not validators[verb].is_valid(arguments), (verb, arguments)
        allowing.withdraw()
        assert refusal(allowing, "coarse_move", {"axis": "x", "steps": -3}) is None


def test_the_schemas_are_json_schemas_that_hosts_of_models_take(ramp: twinscope.Microscope) -> None:
    for schema in verb_schemas(ramp.capabilities()).values():
        Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
        assert not schema.keys() & {"oneOf", "anyOf", "allOf", "$ref"}


def test_limits_units_and_names_stand_in_the_schemas(ramp: twinscope.Microscope) -> None:
    schemas = verb_schemas(ramp.capabilities())
    x = schemas["move_to"]["properties"]["x"]
    assert (x["minimum"], x["maximum"]) == (-1e-6, 1e-6)
    assert "-1e-06 to 1e-06 m" in x["description"]
    assert schemas["scan"]["properties"]["channels"]["items"]["enum"] == ["at_x", "at_y", "at_z"]
    assert (
        schemas["scan"]["properties"]["line_time"]["default"] == ScanRequest.__dataclass_fields__["line_time"].default
    )
    assert "setpoint_current: 1e-12 to 1e-08 A" in schemas["set_signal"]["properties"]["value"]["description"]


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"features": ()}, {"coarse_move", "pulse", "tip_shaping"}),
        ({"features": ("pulse",)}, {"coarse_move", "shape_tip"}),
        ({"scan_modes": ("constant_height",)}, {"set_feedback"}),
        ({"signals": ()}, {"set_signal"}),
        ({"acquisitions": ("spectroscopy",)}, {"scan", "path"}),
    ],
)
def test_what_an_instrument_cannot_do_has_no_schema(ramp: twinscope.Microscope, changes, gone: set[str]) -> None:
    capabilities = dataclasses.replace(ramp.capabilities(), **changes)
    schemas = verb_schemas(capabilities)
    assert not gone & set(schemas)
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    if "scan" in schemas and "set_feedback" in gone:
        assert "setpoint" not in schemas["scan"]["properties"]


def test_what_requests_say_of_themselves_fits(ramp: twinscope.Microscope) -> None:
    """The one plain form of requests, without what is None."""
    requests = [
        ScanRequest(frame=ScanFrame(size=(1e-8, 2e-8), angle=45), pixels=(3, 2), channels=("at_x",), heights=(1e-9,)),
        PathRequest(positions=((0.0, 1e-9),), channels=("at_y",), separate=True, lift=1e-9),
        SpectroscopyRequest(
            swept="bias", positions=((0, 0),), sweep=Sweep(start=-1, stop=1, points=3), channels=("at_z",)
        ),
    ]
    schemas = verb_schemas(ramp.capabilities())
    for request in requests:
        plain = {name: value for name, value in request.to_dict().items() if value is not None}
        Draft202012Validator(schemas[request.kind]).validate(plain)


def test_a_frame_within_the_range_fits_however_it_is_turned(ramp: twinscope.Microscope) -> None:
    capabilities: Capabilities = ramp.capabilities()
    validator = Draft202012Validator(verb_schemas(capabilities)["scan"])
    sizes = [(share * 2e-6 * math.sqrt(2), 1e-9) for share in (0.3, 0.7, 0.99)]
    fitted = 0
    for size, angle in itertools.product(sizes, (0, 30, 45, 90)):
        arguments = SCAN | {"frame": {"size": list(size), "angle": angle}}
        try:
            capabilities.check_request(request_from_dict("scan", arguments))
        except InvalidRequestError:
            continue
        fitted += 1
        assert validator.is_valid(arguments), (size, angle)
    assert fitted >= 5
