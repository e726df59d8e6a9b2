"""Recordings of which everything is known, as images whose values say where they are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from twinscope.capabilities import Channel
from twinscope.drivers.replay import Replay, files
from twinscope.drivers.replay.recording import RecordedImage, RecordedSpectra, Recording
from twinscope.requests import ScanFrame, cell_middles


def places(frame: ScanFrame, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """X and y of the pixels (ny, nx) of a frame, in m."""
    ny, nx = shape
    along, across = np.meshgrid(cell_middles(nx, frame.size[0]), cell_middles(ny, frame.size[1]))
    return frame.to_sample(along, across)


def image(name: str, data: np.ndarray, frame: ScanFrame, unit: str = "m", **more: object) -> RecordedImage:
    """One image."""
    return RecordedImage(name=name, unit=unit, quantity=name, data=data, frame=frame, **more)


def ramps(frame: ScanFrame, shape: tuple[int, int]) -> list[RecordedImage]:
    """The channels `at_x` and `at_y`: where each pixel is, in m; backward with another 1 m."""
    x, y = places(frame, shape)
    return [
        image(name, values + extra, frame, direction=way)
        for name, values in (("at_x", x), ("at_y", y))
        for way, extra in (("forward", 0.0), ("backward", 1.0))
    ]


def spectra(
    values: Sequence[float], data: np.ndarray, positions: Sequence[Sequence[float]], swept: str = "bias"
) -> RecordedSpectra:
    """Spectra (positions, points) of one channel, `response`."""
    return RecordedSpectra(
        channels=(Channel("response", "1", "response"),),
        swept=swept,
        swept_unit="V" if swept == "bias" else "m",
        values=np.asarray(values),
        data=np.asarray(data)[:, None],
        positions=np.asarray(positions),
    )


def recording(images: Sequence[RecordedImage] = (), curves: Sequence[RecordedSpectra] = ()) -> Recording:
    """What a file would hold."""
    return Recording(
        title="made",
        source=Path("made.h5"),
        format="made",
        sha256="0" * 64,
        images=tuple(images),
        spectra=tuple(curves),
        warnings=("it was made for a test",),
    )


def replay(images: Sequence[RecordedImage] = (), curves: Sequence[RecordedSpectra] = (), **options: object) -> Replay:
    """Return a driver that replays this instead of what is in a file."""
    return replay_files([recording(images, curves)], **options)


def replay_files(recordings: Sequence[Recording], **options: object) -> Replay:
    """Return a driver that replays several recordings instead of what is in files."""
    waiting = iter(recordings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "read_recording", lambda path, **how: next(waiting))
        return Replay(**({"file": [f"made{number}.h5" for number in range(len(recordings))]} | options))
