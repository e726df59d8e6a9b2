"""What tests of the bluesky devices share: a RunEngine, its documents, and an instrument that can be held.

Who imports a fixture imports those that it takes, too.
"""

import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import event_model
import h5py
import numpy as np
import pytest
from bluesky import RunEngine
from ophyd_async.core import init_devices

import twinscope
from tests.conftest import RampDriver
from twinscope import ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.bluesky import SpmLink
from twinscope.errors import DriverError
from twinscope.local import LocalTransport

REQUEST = ScanRequest(frame=ScanFrame(size=(2e-9, 1e-9)), pixels=(4, 3), channels=("at_x", "at_y"), line_time=0.01)
LONG = ScanRequest(frame=ScanFrame(size=(2e-9, 1e-9)), pixels=(4, 10), channels=("at_x",), line_time=0.01)
SPECTRUM = SpectroscopyRequest(
    swept="z", positions=[(0.0, 0.0)], sweep=Sweep(start=2e-9, stop=1e-9, points=5), channels=("at_x", "at_z")
)


class HeldDriver(RampDriver):
    """Measures until the test holds it: in the frame and before the line of `holds_at`; a move takes `move_time` s."""

    move_time = 0.0
    holds_at: tuple[int, int] | None = None
    fails_at: int | None = None

    @property
    def frames(self) -> int:
        """How many were begun."""
        return [call[0] for call in self.calls].count("start")

    @property
    def is_holding(self) -> bool:
        return self.frames > 0 and self.holds_at == (self.frames, self.index)

    def move_to(self, x: float, y: float, z: float, speed: float | None = None) -> None:
        self.calls.append(("move_to", x, y, z, speed))
        self.stopped.clear()
        if not self.stopped.wait(self.move_time):
            self.position = twinscope.Position(x, y, z)

    def poll(self) -> bool:
        if self.index == self.fails_at:
            raise DriverError("the cable is out")
        if self.is_holding and not self.stopped.is_set():
            time.sleep(0.005)
            return True
        more = super().poll()
        if self.request.kind == "scan":
            # As a real one, it leaves the tip where the frame ends.
            x, y = self.request.row_positions(min(self.index, self.request.pixels[1] - 1))
            self.position = twinscope.Position(x[-1], y[-1], self.position.z)
        return more


class Documents(event_model.DocumentRouter):
    """Everything that a RunEngine emits, each checked against its schema, and whether what it refers to came before."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, document: dict[str, Any], validate: bool = False) -> None:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(document)
        known = {one["uid"] for _, one in self.all}
        for reference in ("run_start", "descriptor", "stream_resource"):
            assert document.get(reference) in {None, *known}
        super().__call__(name, document)
        self.all.append((name, document))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [document for kind, document in self.all if kind == name]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event["data"] for event in self.of("event")]

    def arrays(self, key: str) -> list[np.ndarray]:
        """Read the data of a data key as a consumer does who knows nothing but the documents: one array per event."""
        descriptor = self.of("descriptor")[-1]["data_keys"][key]
        resources = {one["uid"]: one for one in self.of("stream_resource") if one["data_key"] == key}
        found = []
        for datum in self.of("stream_datum"):
            if datum["stream_resource"] not in resources:
                continue
            resource = resources[datum["stream_resource"]]
            assert resource["mimetype"] == "application/x-hdf5"
            assert datum["indices"] == {"start": len(found), "stop": len(found) + 1}
            assert datum["seq_nums"] == {"start": len(found) + 1, "stop": len(found) + 2}
            parameters = resource["parameters"]
            path = urllib.parse.unquote(urllib.parse.urlparse(resource["uri"]).path)
            with h5py.File(path, "r", swmr=parameters["swmr"]) as file:
                dataset = file[parameters["dataset"]]
                assert list(dataset.shape) == descriptor["shape"] == list(parameters["chunk_shape"])
                assert dataset.dtype.str == descriptor["dtype_numpy"]
                assert dataset.attrs["units"] == descriptor["units"]
                found.append(dataset[...])
        return found


@pytest.fixture(scope="module")
def engine() -> RunEngine:
    RE = RunEngine(call_returns_result=True, context_managers=[])
    RE.pause_msg = ""
    return RE


@pytest.fixture
def documents(engine: RunEngine) -> Iterator[Documents]:
    seen = Documents()
    token = engine.subscribe(seen)
    yield seen
    engine.unsubscribe(token)


@pytest.fixture
def microscope(instrument: Callable[..., Any]) -> Callable[..., twinscope.Microscope]:
    """Make a microscope in this process with a driver."""
    return lambda driver=None, **rules: twinscope.Microscope(transport=LocalTransport(instrument(driver, **rules)))


@pytest.fixture
def link(engine: RunEngine, microscope: Callable[..., twinscope.Microscope]) -> SpmLink:
    return SpmLink(microscope())


@pytest.fixture
def held(engine: RunEngine, microscope: Callable[..., twinscope.Microscope]) -> Iterator[tuple[SpmLink, HeldDriver]]:
    driver = HeldDriver()
    driver.holds_at = (1, 5)
    yield SpmLink(microscope(driver)), driver
    driver.move_time = 0.0


def made(device: Any, name: str) -> Any:
    """Connect a device, as init_devices does."""
    with init_devices():
        device.set_name(name)
        found = device
    assert found.name == name
    return found


def in_thread(engine: RunEngine, plan: Any) -> tuple[threading.Thread, list[BaseException]]:
    """Run a plan beside the test."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            engine(plan)
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def is_free(link: SpmLink) -> bool:
    state = link.microscope.state()
    return state.status == "idle" and state.job is None and state.lease is None
