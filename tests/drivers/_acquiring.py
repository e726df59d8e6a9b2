"""What the tests of drivers share: acquiring without an instrument around it."""

from typing import Any

import numpy as np

from twinscope.drivers.base import Driver
from twinscope.requests import AcquisitionRequest, PathRequest, ScanRequest


class Sink:
    """Keeps what a driver writes."""

    def __init__(self) -> None:
        self.traces: list[np.ndarray] = []
        self.warnings: list[str] = []

    def write(self, first: int, traces: np.ndarray) -> None:
        """Take traces."""
        assert first == len(self.traces)
        self.traces.extend(np.array(traces))

    def warn(self, message: str) -> None:
        """Take a sentence."""
        self.warnings.append(message)


def start(driver: Driver, request: AcquisitionRequest) -> Sink:
    """Begin an acquisition."""
    sink = Sink()
    if isinstance(request, ScanRequest):
        driver.start_scan(request, sink)
    elif isinstance(request, PathRequest):
        driver.start_path(request, sink)
    else:
        driver.start_spectroscopy(request, sink)
    return sink


def acquire(driver: Driver, request: AcquisitionRequest) -> tuple[np.ndarray, Sink]:
    """Acquire to the end; traces (traces, channels, samples)."""
    sink = start(driver, request)
    while driver.poll():
        pass
    return np.array(sink.traces), sink


def line(driver: Driver, start: tuple[float, float], stop: tuple[float, float], points: int, **more: Any) -> Any:
    """Values (passes, channels, points) along a straight line."""
    positions = np.linspace(start, stop, points).tolist()
    wanted = {"channels": ("frequency_shift",), "point_time": 0.01} | more
    return acquire(driver, PathRequest(positions=positions, **wanted))[0]
