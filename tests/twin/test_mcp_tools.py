"""The tools of a language-model agent: what they offer, take and answer."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import twinscope
from tests.twin._mcp import CAUTIOUS, FRAME, LOOKING, MEASURING, MOVING, ROOT
from twinscope import ScanFrame, errors
from twinscope.errors import InvalidRequestError, TwinscopeError
from twinscope.local import LocalTransport
from twinscope.mcp.instrument_client import InstrumentClient
from twinscope.mcp.results import brief, excerpt, finite
from twinscope.mcp.toolbox import toolbox
from twinscope.mcp.tools import Picture

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


# ---------------------------------------------------------------------- what is taken and answered


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
