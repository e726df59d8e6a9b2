"""A Nanonis driver on a scripted controller, for all tests of it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.drivers._nanonis_controller import ScriptedController, quick
from twinscope.drivers.nanonis import Nanonis


@pytest.fixture
def controller() -> Iterator[ScriptedController]:
    made = ScriptedController()
    yield made
    made.close()


@pytest.fixture
def make(controller: ScriptedController) -> Iterator[Callable[..., Nanonis]]:
    made: list[Nanonis] = []

    def start(**options: Any) -> Nanonis:
        made.append(quick(controller, **options))
        made[-1].capabilities()
        made[-1].open()
        return made[-1]

    yield start
    for driver in made:
        driver.close()


@pytest.fixture
def driver(make: Callable[..., Nanonis]) -> Nanonis:
    return make()
