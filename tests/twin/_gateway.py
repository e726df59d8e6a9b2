"""An instrument that records where its tip is behind a Nanonis gateway, for all tests of the gateway.

Who imports a fixture imports those that it takes, too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import twinscope
from tests.conftest import RampDriver
from tests.twin.nanonis_wire import WireClient
from twinscope.gateway import NanonisGateway
from twinscope.interlocks import Interlocks
from twinscope.local import LocalTransport
from twinscope.service import Service

# Of the channels of the ramp driver in the list of signals.
AT_X, AT_Y, AT_Z = 91, 92, 93
BIAS, CURRENT, X, Y, Z = 24, 0, 27, 28, 30
RULES = {"allow": ("pulse", "tip_shaping"), "trips": {"current": (None, 1e-9)}}


@dataclass
class Bench:
    """An instrument behind a gateway, a client of each, and the driver."""

    driver: RampDriver
    gateway: NanonisGateway
    scope: twinscope.Microscope

    def connect(self, port: int = 0) -> WireClient:
        return WireClient(self.gateway.ports[port])


@pytest.fixture
def bench(instrument: Callable[..., Any]) -> Iterator[Callable[..., Bench]]:
    """Start gateways, which end with the test."""
    started: list[NanonisGateway] = []

    def start(driver: RampDriver | None = None, **options: Any) -> Bench:
        driver = driver or RampDriver()
        one = instrument(driver, **RULES)
        scope = twinscope.Microscope(transport=LocalTransport(one))
        assert scope.wait_ready(5)
        gateway = NanonisGateway(Service(one), (0, 0), interlocks=Interlocks.from_dict(RULES), **options)
        gateway.start()
        started.append(gateway)
        return Bench(driver, gateway, scope)

    yield start
    for gateway in started:
        gateway.close()


@pytest.fixture
def client(bench: Callable[..., Bench]) -> Iterator[WireClient]:
    with bench().connect() as connected:
        yield connected


def prepare_scan(client: WireClient, *, pixels: int = 3, lines: int = 2, angle: float = 0.0, time: float = 1.0) -> None:
    client("Scan.FrameSet", center_x=1e-8, center_y=2e-8, width=6e-9, height=4e-9, angle=angle)
    client("Scan.BufferSet", channel_indexes=[AT_X, AT_Y], pixels=pixels, lines=lines)
    client(
        "Scan.SpeedSet",
        forward_linear_speed=0,
        backward_linear_speed=0,
        forward_time_per_line=time,
        backward_time_per_line=time,
        keep_parameter_constant=2,
        speed_ratio=1,
    )
