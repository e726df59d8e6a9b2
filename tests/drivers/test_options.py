"""Typed options of drivers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from twinscope.drivers.options import DriverOptions, read_options
from twinscope.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(DriverOptions):
    host: str
    port: int = 6501
    timeout: float = 2.0
    safe: bool = True
    file: Path | None = None
    corners: tuple[float, float] = (0.0, 1.0)
    names: tuple[str, ...] = ()
    axis: Literal["x", "y"] = "x"
    limits: dict[str, Any] = field(default_factory=dict)
    rate: float | str = 1.0


def test_values_become_what_is_annotated() -> None:
    options = Options.from_keywords({"host": "h", "timeout": 3, "corners": [1, 2], "names": ["a"], "file": "f.h5"})
    assert options.timeout == 3.0
    assert type(options.timeout) is float
    assert options.corners == (1.0, 2.0)
    assert options.names == ("a",)
    assert options.file == Path("f.h5")
    assert Options(host="h", rate="fast").rate == "fast"
    assert Options(host="h", rate=2).rate == 2.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"port": 65.5}, "the option port is 65.5: expected an integer"),
        ({"port": True}, "port is True: expected an integer"),
        ({"timeout": float("nan")}, "timeout is nan: expected a finite number"),
        ({"timeout": 10**400}, "timeout is 10+: expected a finite number"),
        ({"timeout": "2"}, "timeout is '2'"),
        ({"safe": 1}, "safe is 1: expected true or false"),
        ({"file": 3}, "file is 3: expected a path or nothing"),
        ({"file": ""}, "file is ''"),
        ({"corners": [1]}, r"corners is \[1\]: expected a list of 2: a finite number, a finite number"),
        ({"corners": "12"}, "corners is '12'"),
        ({"names": ["a", 1]}, r"names is \['a', 1\]: expected a list, each text"),
        ({"axis": "z"}, "axis is 'z': expected one of 'x', 'y'"),
        ({"axis": np.array(["x", "y"])}, r"axis is array\(.*: expected one of 'x', 'y'"),
        ({"limits": [1]}, r"limits is \[1\]: expected a table"),
        ({"rate": None}, "rate is None: expected a finite number or text"),
        ({"hots": "h"}, "unknown option 'hots': expected host, port"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_option(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        Options.from_keywords({"host": "h"} | wrong)
    assert caught.value.details["name"] in wrong


def test_what_must_be_given_is_asked_for() -> None:
    with pytest.raises(ConfigurationError, match="the option host is missing"):
        Options.from_keywords({})
    first, second, *_ = Options.describe()
    assert (first.name, first.required) == ("host", True)
    assert (second.name, second.required, second.default, second.kind) == ("port", False, 6501, "an integer")


def test_a_file_gives_the_same_as_keywords(tmp_path: Path) -> None:
    file = tmp_path / "driver.toml"
    file.write_text('host = "lab"\ncorners = [0, 2.5]\n[limits]\nx = 1e-6\n')
    options = Options.from_keywords(read_options(file))
    assert options == Options(host="lab", corners=(0.0, 2.5), limits={"x": 1e-6})
    file.write_text("host = ")
    with pytest.raises(ConfigurationError, match=r"driver\.toml cannot be read"):
        read_options(file)
