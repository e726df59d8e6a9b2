"""Acquisitions of every kind that the capabilities list: whole, in order, and of the right shape."""

import numpy as np
import pytest

from twinscope.conformance.bench import Bench, Direct, approach
from twinscope.errors import DriverError
from twinscope.requests import CONSTANT_HEIGHT, AcquisitionRequest, ScanFrame

CONTRACT = "twinscope.drivers.base.TraceSink, Driver.start_scan to poll, and docs/drivers.md, 'Acquisitions'"


def need(bench: Bench, kind: str) -> None:
    """Skip unless the instrument has a kind of acquisition."""
    if kind not in bench.capabilities.acquisitions:
        pytest.skip(f"this instrument has no {kind}")


def measured(bench: Bench, request: AcquisitionRequest) -> np.ndarray:
    """Acquire, and check that the traces have their shape and something was measured."""
    traces = bench.acquire(request)
    shape = (request.trace_count, len(request.channels), request.trace_length)
    assert traces.shape == shape, f"the traces have the shape {traces.shape}: expected {shape}"
    for i, name in enumerate(request.channels):
        assert np.isfinite(traces[:, i]).any(), f"the channel {name} has recorded no number in this {request.kind}"
    return traces


# ---------------------------------------------------------------------- scans


@pytest.mark.parametrize("slow_direction", ["up", "down"])
@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_scan_in_every_direction(bench: Bench, direction: str, slow_direction: str) -> None:
    """A scan gives one trace for each line and direction, numbered from 0 without gaps."""
    need(bench, "scan")
    measured(bench, bench.work.scan(direction=direction, slow_direction=slow_direction))


def test_scan_of_every_channel(bench: Bench) -> None:
    """Every channel can be recorded, with all others."""
    need(bench, "scan")
    measured(bench, bench.work.scan(channels=bench.work.all_channels))


def test_channels_are_in_the_order_of_the_request(bench: Bench) -> None:
    """Traces hold the channels in the order of the request, whatever the order of the capabilities is."""
    need(bench, "scan")
    names = _telling_channels(bench)
    one_way = bench.acquire(bench.work.scan(channels=names))
    other_way = bench.acquire(bench.work.scan(channels=names[::-1]))
    for i, name in enumerate(names):
        first, second = one_way[:, i], other_way[:, -1 - i]
        scale = max(float(np.nanmax(np.abs(one_way[:, i]))), 1e-30)
        assert np.nanmax(np.abs(first - second)) <= 0.2 * scale, f"{name} is another channel in another order"


def _telling_channels(bench: Bench) -> tuple[str, ...]:
    """Return two channels that differ: those of the position, or else the first two."""
    names = tuple(bench.work.ramp.values()) if len(bench.work.ramp) == 2 else bench.work.all_channels[:2]
    if len(names) < 2:
        pytest.skip("there is only one channel")
    return names


def test_scan_in_every_z_mode(bench: Bench) -> None:
    """Every z-mode can be scanned in; afterwards the z-controller is in the mode of the scan."""
    need(bench, "scan")
    for mode in bench.capabilities.scan_modes:
        approach(bench)
        measured(bench, bench.work.scan(z_mode=mode))
        wanted = "off" if mode == CONSTANT_HEIGHT else mode
        assert bench.read().feedback == wanted, f"feedback is {bench.read().feedback!r} after a scan with z_mode {mode}"


def test_scan_with_a_setpoint(bench: Bench) -> None:
    """A scan with a setpoint sets it, and keeps it."""
    need(bench, "scan")
    for mode in bench.capabilities.feedback_modes:
        approach(bench)
        name = f"setpoint_{mode.removeprefix('constant_')}"
        setpoint = 1.01 * bench.read().signals[name]
        measured(bench, bench.work.scan(z_mode=mode, setpoint=setpoint))
        kept = bench.read().signals[name]
        assert kept == pytest.approx(setpoint, rel=1e-3), f"{name} is {kept} after a scan with the setpoint {setpoint}"


def test_scan_at_several_heights(bench: Bench) -> None:
    """A scan at several heights is one image after the other, in the order of the heights."""
    need(bench, "scan")
    if CONSTANT_HEIGHT not in bench.capabilities.scan_modes:
        pytest.skip("this instrument does not scan at constant height")
    if bench.settings.one_height:
        pytest.skip("this instrument measures at one height only")
    top = bench.capabilities.limits["z"].high
    heights = (bench.work.height + 0.1 * (top - bench.work.height), bench.work.height)
    measured(bench, bench.work.scan(heights=heights))


def test_a_single_pixel(bench: Bench) -> None:
    """A scan may have one pixel in one line."""
    need(bench, "scan")
    measured(bench, bench.work.scan(pixels=(1, 1)))


def test_a_far_frame(bench: Bench) -> None:
    """A scan begins wherever the tip is: the driver moves to its start."""
    need(bench, "scan")
    x, y = bench.work.offset(0.5, 0.5)
    bench.perform("move_to", x=x, y=y)
    size = (bench.work.size[0] / 4, bench.work.size[1] / 4)
    center = bench.work.offset(-0.3, -0.3)
    measured(bench, bench.work.scan(frame=ScanFrame(size=size, center=center)))


# ---------------------------------------------------------------------- paths and spectra


@pytest.mark.parametrize("passes", [1, 2])
def test_path(bench: Bench, passes: int) -> None:
    """Each pass of a path is one trace with a sample for each position."""
    need(bench, "path")
    measured(bench, bench.work.path(passes=passes))


@pytest.mark.parametrize("passes", [1, 3])
def test_separate_points(bench: Bench, passes: int) -> None:
    """Each separate point is one trace with a sample for each pass."""
    need(bench, "path")
    measured(bench, bench.work.path(separate=True, passes=passes))


def test_separate_points_with_a_lift(bench: Bench) -> None:
    """Between separate points the tip is lifted."""
    need(bench, "path")
    if bench.settings.one_height:
        pytest.skip("this instrument measures at one height only")
    top = bench.capabilities.limits["z"].high
    measured(bench, bench.work.path(separate=True, lift=0.1 * (top - bench.work.height)))


def test_path_in_every_z_mode(bench: Bench) -> None:
    """Every z-mode is one of paths, too."""
    need(bench, "path")
    for mode in bench.capabilities.scan_modes:
        approach(bench)
        measured(bench, bench.work.path(z_mode=mode))


def test_every_sweep(bench: Bench) -> None:
    """Everything that the capabilities list can be swept; each position is one trace."""
    need(bench, "spectroscopy")
    for swept in bench.capabilities.sweeps:
        measured(bench, bench.work.spectroscopy(swept))


def test_a_sweep_leaves_the_signal_as_it_was(bench: Bench) -> None:
    """After a sweep of the bias it is what it was before."""
    need(bench, "spectroscopy")
    for swept in set(bench.capabilities.sweeps) & set(bench.capabilities.settable):
        before = bench.read().signals[swept]
        bench.acquire(bench.work.spectroscopy(swept))
        after = bench.read().signals[swept]
        assert after == before, f"{swept} was {before} before it was swept and is {after} afterwards"


# ---------------------------------------------------------------------- how they are handed over


def test_traces_are_numbered(direct: Direct) -> None:
    """A driver writes each trace once, in order, within poll() and from its thread, as (n, channels, samples)."""
    for request in _each_kind(direct):
        sink = direct.start(request)
        direct.poll_to_the_end(sink)
        assert len(sink.array()) == request.trace_count, f"{len(sink.traces)} traces in place of {request.trace_count}"


def test_poll_after_the_end(direct: Direct) -> None:
    """After the end poll() returns False again or raises DriverError, and writes nothing."""
    for request in _each_kind(direct):
        sink = direct.start(request)
        direct.poll_to_the_end(sink)
        count = len(sink.traces)
        for _ in range(2):
            try:
                assert not direct.poll(sink), "poll() returned True after the end"
            except DriverError:
                sink.active = False
        assert len(sink.traces) == count, "poll() wrote traces after the end"


def _each_kind(bench: Direct) -> list[AcquisitionRequest]:
    kinds, work = bench.capabilities.acquisitions, bench.work
    requests: list[AcquisitionRequest] = []
    if "scan" in kinds:
        requests.append(work.scan(direction="both"))
    if "path" in kinds:
        requests += [work.path(passes=2), work.path(separate=True)]
    if "spectroscopy" in kinds:
        requests += [work.spectroscopy(swept) for swept in bench.capabilities.sweeps]
    return requests
