"""Where things are measured: frames of any angle, every direction, paths, points and spectra."""

import numpy as np
import pytest

from twinscope.conformance.bench import Bench
from twinscope.conformance.checks.acquisitions import need
from twinscope.requests import (
    CONSTANT_HEIGHT,
    AcquisitionRequest,
    PathRequest,
    ScanFrame,
    ScanRequest,
    SpectroscopyRequest,
    Sweep,
)

CONTRACT = (
    "twinscope.requests.ScanFrame and ScanRequest, twinscope.drivers.base.TraceSink, and docs/drivers.md, 'Geometry'"
)

_ANGLES = (0.0, 30.0, 90.0, 180.0, -45.0, 270.0)


# ---------------------------------------------------------------------- with channels that record the position


def ramp_channels(bench: Bench) -> tuple[str, str]:
    """Return the channels that record x and y, or skip."""
    if set(bench.work.ramp) != {"x", "y"}:
        pytest.skip('no channels record the position: say which do in [conformance], ramp = {x = "...", y = "..."}')
    return bench.work.ramp["x"], bench.work.ramp["y"]


def check_positions(bench: Bench, request: AcquisitionRequest, wanted: np.ndarray) -> None:
    """Check that the traces hold the positions (traces, 2, samples), in m."""
    traces = bench.acquire(request)
    allowed = bench.settings.tolerance * max(bench.work.size)
    off = np.abs(traces - wanted)
    worst = np.unravel_index(int(np.nan_to_num(off, nan=np.inf).argmax()), off.shape)
    trace, axis, sample = map(int, worst)
    assert off[worst] <= allowed, (
        f"trace {trace}, sample {sample} of a {_told(request, trace)} was measured at {'xy'[axis]} ="
        f" {traces[worst]:.6g} m: expected {wanted[worst]:.6g} m within {allowed:.2g} m"
    )


def _told(request: AcquisitionRequest, trace: int) -> str:
    if not isinstance(request, ScanRequest):
        return request.kind
    address = request.address(trace)
    return (
        f"scan of {request.pixels} pixels at {request.frame.angle} degrees, {request.slow_direction}"
        f" (row {address.row} from the bottom, {address.direction})"
    )


def scan_positions(request: ScanRequest) -> np.ndarray:
    """Return where each trace of a scan is measured, in m, shape (traces, 2, nx)."""
    rows = (request.row_positions(request.address(trace).row) for trace in range(request.trace_count))
    return np.array([np.stack(row) for row in rows])


@pytest.mark.parametrize("angle", _ANGLES)
def test_ramp_at_every_angle(bench: Bench, angle: float) -> None:
    """A frame is rotated about its middle, counter-clockwise; a pixel stands for the middle of its cell."""
    channels = ramp_channels(bench)
    need(bench, "scan")
    request = bench.work.scan(angle=angle, channels=channels)
    check_positions(bench, request, scan_positions(request))


@pytest.mark.parametrize("slow_direction", ["up", "down"])
@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_ramp_in_every_direction(bench: Bench, direction: str, slow_direction: str) -> None:
    """Up begins with the bottom row, down with the top row; the samples of a backward line are not reversed."""
    channels = ramp_channels(bench)
    need(bench, "scan")
    request = bench.work.scan(angle=20.0, direction=direction, slow_direction=slow_direction, channels=channels)
    check_positions(bench, request, scan_positions(request))


def test_ramp_of_a_small_frame_elsewhere(bench: Bench) -> None:
    """A frame lies where its centre is, with its own width and height."""
    channels = ramp_channels(bench)
    need(bench, "scan")
    size = (bench.work.size[0] / 4, bench.work.size[1] / 2)
    request = bench.work.scan(frame=ScanFrame(size=size, center=bench.work.offset(0.2, -0.1)), channels=channels)
    check_positions(bench, request, scan_positions(request))


def test_ramp_along_a_path(bench: Bench) -> None:
    """A path goes through its positions in their order, in each pass."""
    channels = ramp_channels(bench)
    need(bench, "path")
    request = bench.work.path(passes=2, channels=channels)
    check_positions(bench, request, np.stack([np.array(request.positions).T] * 2))


def test_ramp_at_separate_points(bench: Bench) -> None:
    """Separate points are measured in their order, each `passes` times."""
    channels = ramp_channels(bench)
    need(bench, "path")
    request = bench.work.path(separate=True, passes=2, channels=channels)
    check_positions(bench, request, np.stack([np.array(request.positions)] * 2, axis=-1))


def test_ramp_of_spectra(bench: Bench) -> None:
    """Each spectrum is taken at its position."""
    channels = ramp_channels(bench)
    need(bench, "spectroscopy")
    request = bench.work.spectroscopy(bench.capabilities.sweeps[0], channels=channels)
    wanted = np.repeat(np.array(request.positions)[:, :, None], request.trace_length, axis=2)
    check_positions(bench, request, wanted)


# ---------------------------------------------------------------------- with any channel


def same_points(bench: Bench) -> dict[str, ScanRequest | PathRequest]:
    """Return requests that measure the same points, by what they are."""
    work, (width, height) = bench.work, bench.work.size
    nx, ny = bench.settings.pixels
    requests: dict[str, ScanRequest | PathRequest] = {}
    if "scan" in bench.capabilities.acquisitions:
        requests |= {
            "a frame": work.scan(),
            "a frame taken downwards": work.scan(slow_direction="down"),
            "a frame taken backwards (its lines in the order of the pixels)": work.scan(direction="backward"),
            "a frame turned by 90 degrees counter-clockwise": work.scan(
                angle=90.0, size=(height, width), pixels=(ny, nx)
            ),
            "a frame turned by 180 degrees": work.scan(angle=180.0),
            "a frame turned by -90 degrees": work.scan(angle=-90.0, size=(height, width), pixels=(ny, nx)),
        }
    if "path" in bench.capabilities.acquisitions:
        requests |= {"a path": work.path(), "separate points": work.path(separate=True)}
    return requests


def in_order(bench: Bench, request: ScanRequest | PathRequest) -> np.ndarray:
    """Acquire one channel, and return its values in the order of the pixels of the frame."""
    values = bench.acquire(request)[:, 0].ravel()
    positions = np.array(request.positions) if isinstance(request, PathRequest) else _flat(scan_positions(request))
    distances = np.linalg.norm(bench.work.pixel_positions()[:, None] - positions[None], axis=-1)
    assert distances.min(axis=1).max() < 1e-3 * min(bench.work.size), "the requests do not measure the same points"
    ordered: np.ndarray = values[distances.argmin(axis=1)]
    return ordered


def _flat(positions: np.ndarray) -> np.ndarray:
    return positions.transpose(0, 2, 1).reshape(-1, 2)


def test_the_same_points_give_the_same_values(bench: Bench) -> None:
    """The same points have the same values, whether scanned in a frame of any angle, along a path, or one by one."""
    requests = same_points(bench)
    if len(requests) < 2:
        pytest.skip("this instrument has one way to measure a point only")
    (first, request), *others = requests.items()
    reference = in_order(bench, request)
    contrast = float(np.ptp(reference))
    if not contrast > 1e-6 * np.abs(reference).max():
        name = bench.work.channels[0]
        pytest.skip(
            f"{name} is the same in the whole frame: say in [conformance] where it is not (center, size, height)"
        )
    for name, other in others:
        off = np.abs(in_order(bench, other) - reference)
        worst = int(off.argmax())
        assert off[worst] <= bench.settings.tolerance * contrast, (
            f"{name} has another value than {first} at the pixel {worst} (row by row from the bottom): off by"
            f" {off[worst] / contrast:.2g} of the contrast"
        )


def two_heights(bench: Bench) -> tuple[float, float]:
    """Return a safe height and one above it, in m, or skip."""
    if CONSTANT_HEIGHT not in bench.capabilities.scan_modes:
        pytest.skip("this instrument does not measure at constant height")
    if bench.settings.one_height:
        pytest.skip("this instrument measures at one height only")
    low = bench.work.height
    return low, low + 0.1 * (bench.capabilities.limits["z"].high - low)


def test_each_layer_is_at_its_height(bench: Bench) -> None:
    """Each image of a stack is measured at its height, whatever their order and wherever the tip was before."""
    need(bench, "scan")
    low, high = two_heights(bench)
    images: dict[tuple[tuple[float, float], float], np.ndarray] = {}
    for heights in ((high, low), (low, high)):
        layers = bench.acquire(bench.work.scan(heights=heights))[:, 0].reshape(2, -1)
        images |= {(heights, height): layer for height, layer in zip(heights, layers, strict=True)}
        z = bench.read().position.z
        assert z == heights[-1], f"after a scan at the heights {heights} the tip is at z = {z}: expected the last one"
    everything = np.array(list(images.values()))
    allowed = bench.settings.tolerance * float(np.nanmax(everything) - np.nanmin(everything))
    for height in (low, high):
        one, other = images[(high, low), height], images[(low, high), height]
        assert np.allclose(one, other, rtol=0, atol=allowed, equal_nan=True), (
            f"{bench.work.channels[0]} at z = {height} m has other values when the heights come in another order"
        )


def test_a_path_is_at_its_height(bench: Bench) -> None:
    """A path is measured at the height that it asks for, wherever the tip was before."""
    need(bench, "path")
    low, high = two_heights(bench)
    for height in (high, low):
        bench.acquire(bench.work.path(height=height))
        z = bench.read().position.z
        assert z == height, f"after a path at z = {height} m the tip is at z = {z} m"


# ---------------------------------------------------------------------- where the tip is afterwards


@pytest.mark.parametrize("slow_direction", ["up", "down"])
@pytest.mark.parametrize("angle", [0.0, 30.0])
def test_the_tip_is_at_the_last_line(bench: Bench, angle: float, slow_direction: str) -> None:
    """After a scan, read() tells where the tip is: at an end of the last line."""
    need(bench, "scan")
    request = bench.work.scan(angle=angle, slow_direction=slow_direction)
    bench.acquire(request)
    x, y = request.row_positions(request.address(request.trace_count - 1).row)
    position = bench.read().position
    pixel = max(size / count for size, count in zip(request.frame.size, request.pixels, strict=True))
    ends = np.hypot(x[[0, -1]] - position.x, y[[0, -1]] - position.y)
    assert ends.min() <= 0.75 * pixel, (
        f"after a scan, {slow_direction} at {angle} degrees, the tip is at {position.x, position.y}: the last line goes"
        f" from ({x[0]:.6g}, {y[0]:.6g}) to ({x[-1]:.6g}, {y[-1]:.6g})"
    )


def test_the_tip_is_at_the_last_position(bench: Bench) -> None:
    """After a path or spectra, the tip is at the last position."""
    kinds, requests = bench.capabilities.acquisitions, list[PathRequest | SpectroscopyRequest]()
    if "path" in kinds:
        requests.append(bench.work.path())
    if "spectroscopy" in kinds:
        requests.append(bench.work.spectroscopy(bench.capabilities.sweeps[0]))
    for request in requests:
        bench.acquire(request)
        position, last = bench.read().position, request.positions[-1]
        off = np.hypot(position.x - last[0], position.y - last[1])
        assert off <= bench.settings.tolerance * max(bench.work.size), (
            f"after a {request.kind} that ends at {last} the tip is at {position.x, position.y}"
        )


def test_a_z_sweep_is_in_its_order(bench: Bench) -> None:
    """A sweep goes from its start to its stop: reversed, it gives the reversed values."""
    if "spectroscopy" not in bench.capabilities.acquisitions or "z" not in bench.capabilities.sweeps:
        pytest.skip("this instrument has no sweeps of z")
    request = bench.work.spectroscopy("z", points=9)
    down = bench.acquire(request)[:, 0]
    sweep = request.sweep
    reverse = Sweep(start=sweep.stop, stop=sweep.start, points=sweep.points)
    up = bench.acquire(bench.work.spectroscopy("z", sweep=reverse))[:, 0]
    contrast = float(np.ptp(down))
    if not contrast > 1e-6 * np.abs(down).max():
        pytest.skip(f"{bench.work.channels[0]} does not depend on z here")
    assert np.abs(up[:, ::-1] - down).max() <= max(bench.settings.tolerance, 0.05) * contrast
