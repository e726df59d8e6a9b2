"""How fast a recording is replayed: scans through server and client, and the z-controller that follows it."""

import itertools
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from _processes import serving
from _report import Figure, Report, arguments, duration, interleaved

import twinscope
from twinscope.drivers.replay.feedback import Feedback, follow, means_of_samples, places_of_steps
from twinscope.drivers.replay.sampling import sample
from twinscope.drivers.replay.tip import TipShape, dilated

_ROUNDS = 5
_CHANNELS = 4
_SIZE = 1e-6
# Of DTMicroscope: the sampling of the loop, in Hz, the time of a line, in s, and its gain.
_RATE, _LINE_TIME, _GAIN, _MEMORY = 2000.0, 2.0, 1e-3, 40
# Lines that the plain loop follows.
_LINES = 4


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    report = Report("Replay: scans of a recording, through server and client on the loopback interface")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        report_scan(report, root, _CHANNELS, 256, "2.1 s at best, 5.5 s under load")
        report_scan(report, root, 1, 1024, "8.77 s")
        report_feedback_scan(report, root)
    report_numerics(report)
    report.notes += [
        "a scan: from the request until a client that waits has all values, with the lines on disk; accelerated clock",
        f"the plain loop: DTMicroscope's algorithm, one step after the other in Python, over {_LINES} lines, for 256",
        "not measured in this run: DTMicroscope, elsewhere: the feedback of one 256^2 channel 42 s, get_scan with"
        " tip_doubling 18.6 s in the first call",
    ]
    report.finish(options.json)


def report_scan(report: Report, root: Path, channels: int, pixels: int, peer: str) -> None:
    """Measure scans that are as large as the recording, and turned ones."""
    with microscope(root, channels, pixels) as scope:
        turned = twinscope.ScanFrame(size=(_SIZE / 2, _SIZE / 2), angle=30.0)
        frames = {"": twinscope.ScanFrame(size=(_SIZE, _SIZE)), ", a frame turned by 30 degrees": turned}
        names = [channel.name for channel in scope.capabilities().channels]
        actions = [partial(scan, scope, frame, pixels, names) for frame in frames.values()]
        size = f"{channels} x {pixels} x {pixels}"
        for what, figure in zip(frames, interleaved(actions, _ROUNDS), strict=True):
            report.add(f"scan of {size}{what}", figure)
            report.add("the same, as throughput", figure.per(channels * pixels**2 * 4, "B/s"))
    report.notes.append(f"{size}, not measured in this run: DTMicroscope's get_scan, elsewhere: {peer}")


def report_feedback_scan(report: Report, root: Path) -> None:
    """Measure a scan behind a z-controller."""
    feedback = f"feedback={{integral = {_GAIN}, memory = {_MEMORY}, rate = {_RATE}}}"
    with microscope(root, 1, 256, "--set", feedback, "--set", "topography=channel_0") as scope:
        frame = twinscope.ScanFrame(size=(_SIZE, _SIZE))
        (figure,) = interleaved([partial(scan, scope, frame, 256, ["channel_0"])], _ROUNDS)
    report.add("scan of 256 x 256 behind the z-controller", figure, target=1.0)


def report_numerics(report: Report) -> None:
    """Measure what is computed, without a server."""
    lines = rough(256)
    steps = round(_LINE_TIME * _RATE)
    loop = Feedback(integral=_GAIN, memory=_MEMORY, rate=_RATE)
    fine = places_of_steps(lines, steps)
    ours, plain = interleaved(
        [
            lambda: means_of_samples(follow(places_of_steps(lines, steps), loop), 256),
            lambda: [plain_loop(line) for line in fine[:_LINES]],
        ],
        _ROUNDS,
    )
    followed = follow(fine[:_LINES], loop)
    worst = abs(followed - [plain_loop(line) for line in fine[:_LINES]]).max() / np.ptp(lines)
    whole = Figure(tuple(value * 256 / _LINES for value in plain.values))
    report.add(f"z-controller over 256 lines of {steps} steps", ours, peer=("plain loop", whole), target=1.0)
    report.notes.append(f"the two differ by {worst:.1g} of the range of heights")
    frame = twinscope.ScanFrame(size=(_SIZE, _SIZE))
    image = rough(1024)
    x, y = np.random.default_rng(1).uniform(-_SIZE / 2, _SIZE / 2, (2, 2**20))
    for interpolation in ("nearest", "linear", "cubic"):
        action = partial(sample, frame, [image], x, y, interpolation)  # type: ignore[arg-type]
        report.add(f"{interpolation} interpolation of 1 million places", interleaved([action], _ROUNDS)[0])
    pixel = (_SIZE / 256, _SIZE / 256)
    for tip in (TipShape(radius=2e-8), TipShape(shape="cone", radius=1e-8, half_angle=20.0)):
        name = f"{tip.shape}, 256 x 256, twice for a double tip"
        double = TipShape.from_dict(tip.to_dict() | {"second_offset": [3e-8, 1e-8]})
        report.add(f"dilation by a {name}", Figure((duration(partial(dilated, lines, pixel, double)),)))


def plain_loop(trace: np.ndarray) -> np.ndarray:
    """Follow one trace as DTMicroscope does: a list of the last errors, summed in each step."""
    height, errors, heights = trace[0], np.zeros(_MEMORY), [trace[0]]
    for now, following in itertools.pairwise(trace):
        errors = np.roll(errors, -1)
        errors[-1] = height - now
        height = max(following, height - _GAIN * np.sum(errors))
        heights.append(height)
    return np.array(heights)


@contextmanager
def microscope(root: Path, channels: int, pixels: int, *options: str) -> Iterator[twinscope.Microscope]:
    """Serve a recording; yields a client of it that is in control."""
    path = root / f"recording_{channels}_{pixels}.h5"
    write_recording(path, channels, pixels)
    command = ("--driver", "replay", "--set", f"file={path}", *options)
    with (
        serving(*command, directory=root / f"data_{time.monotonic_ns()}") as server,
        twinscope.connect(server.uri) as scope,
    ):
        scope.wait_ready(60)
        with scope.control(purpose="benchmark"):
            yield scope


def scan(scope: twinscope.Microscope, frame: twinscope.ScanFrame, pixels: int, channels: list[str]) -> None:
    """Scan, and wait for all values."""
    request = {"frame": frame, "pixels": (pixels, pixels), "channels": channels, "line_time": _LINE_TIME}
    assert scope.scan(**request).result(120).complete


def rough(pixels: int) -> np.ndarray:
    """Return a topography of hills and noise, about 20 nm high, in m."""
    axis = np.linspace(0, 1, pixels)
    x, y = np.meshgrid(axis, axis)
    hills = np.sin(23 * x + 3 * y) * np.cos(17 * y) + np.sin(7 * x * y)
    return 5e-9 * (hills + 0.05 * np.random.default_rng(pixels).normal(size=x.shape))


def write_recording(path: Path, channels: int, pixels: int) -> None:
    """Write channels of float32 in m as an NSID file."""
    positions = (np.arange(pixels) + 0.5) / pixels * _SIZE - _SIZE / 2
    with h5py.File(path, "w") as file:
        for number in range(channels):
            group = file.create_group(f"Measurement_000/Channel_{number:03d}/generic")
            data = group.create_dataset("generic", data=rough(pixels).T.astype("f4"))
            data.attrs.update({"quantity": f"channel {number}", "units": "m", "main_data_name": "generic"})
            for dimension, name in enumerate(("x", "y")):
                scale = group.create_dataset(name, data=positions)
                scale.attrs.update({"name": name, "quantity": name, "units": "m", "dimension_type": "SPATIAL"})
                scale.make_scale(name)
                data.dims[dimension].attach_scale(scale)


if __name__ == "__main__":
    main()
