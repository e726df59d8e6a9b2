"""Grids of spectra of Nanonis (``.3ds``).

After the header, each position of the grid has one record, from the bottom left, row by row: parameters, then one
channel after the other, all float32. A grid that was stopped ends after any of its records.
"""

from pathlib import Path

import numpy as np

from twinscope.drivers.replay.readers.contents import Contents, check_size, damaged, read_bytes
from twinscope.drivers.replay.readers.grids import frame_of
from twinscope.drivers.replay.readers.names import Names, split_unit
from twinscope.drivers.replay.readers.nanonis_header import Header, decode, parse_pairs
from twinscope.drivers.replay.readers.options import ReadingOptions
from twinscope.drivers.replay.readers.sweeps import spectrum_channel, swept_signal
from twinscope.drivers.replay.recording import RecordedImage, RecordedSpectra
from twinscope.requests import ScanFrame

_END_OF_HEADER = b":HEADER_END:"
_SEGMENTS = "Segment Start (V), Segment End (V)"
# Where a line of segments has its number of steps.
_STEPS = 4


def read(path: Path, options: ReadingOptions) -> Contents:
    """Read all spectra of a grid, and as images what was recorded once at each position.

    `options` are not used: the file says it all.
    """
    del options
    content = read_bytes(path)
    before, found, after = content.partition(_END_OF_HEADER)
    if not found:
        raise damaged(path, "its header has no end")
    header = Header(path, parse_pairs(decode(before), "="))
    contents = Contents(metadata=dict(header.entries))
    nx, ny = header.counts("Grid dim", count=2, separator="x")
    parameters = [*_labels(header, "Fixed parameters"), *_labels(header, "Experiment parameters")]
    channels = _labels(header, "Channels")
    if header.counts("# Parameters (4 byte)", count=1) != (len(parameters),) or not channels:
        raise damaged(path, f"its header names {len(parameters)} parameters and {len(channels)} channels")
    points = header.counts("Points", count=1)[0]
    records = _records(path, contents, after[_line_end(after) :], nx * ny, len(parameters) + points * len(channels))
    by_name = dict(zip(parameters, records[:, : len(parameters)].T.astype(float), strict=True))
    frame, positions = _place(header, by_name, (nx, ny))
    _add_maps(contents, by_name, frame, (nx, ny))
    data = records[:, len(parameters) :].reshape(len(records), len(channels), points)
    for chosen, values in _sweeps(path, header, by_name, points):
        _add_spectra(contents, header, channels, values, data[chosen], positions[: len(records)][chosen])
    return contents


def _labels(header: Header, name: str) -> list[str]:
    return [label.strip() for label in header.text(name).split(";") if label.strip()]


def _line_end(text: bytes) -> int:
    """Count the bytes that end a line at the start of `text`."""
    return 2 if text[:2] == b"\r\n" else 1 if text[:1] == b"\n" else 0


def _records(path: Path, contents: Contents, data: bytes, expected: int, length: int) -> np.ndarray:
    """Return one record per row, as many as were measured."""
    check_size(path, (expected, length), 4)
    count, rest = divmod(len(data), 4 * length)
    if rest or not 1 <= count <= expected:
        raise damaged(
            path, f"it holds {len(data)} bytes of data, expected {4 * length} for each of up to {expected} positions"
        )
    if count < expected:
        contents.warn(f"the grid was stopped: {count} of {expected} positions were measured")
    return np.frombuffer(data, ">f4").reshape(count, length)


def _place(header: Header, parameters: dict[str, np.ndarray], pixels: tuple[int, int]) -> tuple[ScanFrame, np.ndarray]:
    """Frame of the grid, and the positions of all its spectra: those that were recorded, or else those of the frame."""
    x, y, width, height, angle = header.numbers("Grid settings", count=5, separator=";")
    missing = np.full(len(next(iter(parameters.values()))), np.nan)
    recorded = np.stack([parameters.get(name, missing) for name in ("X (m)", "Y (m)")], axis=-1)
    known = bool(np.isfinite(recorded).all())
    measured = frame_of(recorded, pixels) if known else None
    frame = measured or ScanFrame(size=(width, height), center=(x, y), angle=-angle)
    return frame, recorded if known else np.array(frame.grid(pixels))


def _add_maps(contents: Contents, parameters: dict[str, np.ndarray], frame: ScanFrame, pixels: tuple[int, int]) -> None:
    """Add the height and the signals of the scan, which are recorded once at each position, as images."""
    names = Names()
    for label, values in parameters.items():
        if label != "Z (m)" and not label.startswith("Scan:"):
            continue
        bare, unit = split_unit(label)
        si, scaled = contents.to_si(bare, unit, values)
        image = np.full(pixels[0] * pixels[1], np.nan)
        image[: len(scaled)] = scaled
        data = image.reshape(pixels[::-1])
        contents.images.append(RecordedImage(name=names.name(bare), unit=si, quantity=label, data=data, frame=frame))


def _sweeps(
    path: Path, header: Header, parameters: dict[str, np.ndarray], points: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each sweep that occurs: which records have it, and its values."""
    count = len(next(iter(parameters.values())))
    if header.entries.get("Filetype", "").strip() == "MLS":
        return [(np.arange(count), _segments(path, header, points))]
    missing = np.full(count, np.nan)
    ends = np.stack([parameters.get(f"Sweep {end}", missing) for end in ("Start", "End")], axis=-1)
    if not np.isfinite(ends).all():
        raise damaged(path, "it does not say from where to where was swept")
    different, which = np.unique(ends, axis=0, return_inverse=True)
    return [
        (np.flatnonzero(which.ravel() == index), np.linspace(start, stop, points))
        for index, (start, stop) in enumerate(different)
    ]


def _segments(path: Path, header: Header, points: int) -> np.ndarray:
    """Values of a sweep that is made of segments; where two meet, the point may count once or twice."""
    name = next((name for name in header.entries if name.startswith(_SEGMENTS)), _SEGMENTS)
    lines: list[tuple[float, float, int]] = []
    for line in header.text(name).split(";"):
        numbers = Header(path, {name: line}).numbers(name, count=len(line.split(",")), separator=",")
        if len(numbers) <= _STEPS or not 1 <= numbers[_STEPS] <= points:
            raise damaged(path, f"a segment of its sweep is {line[:80]!r}")
        lines.append((numbers[0], numbers[1], int(numbers[_STEPS])))
    count = sum(steps for *_, steps in lines)
    shared = len(lines) - 1
    if points not in (count, count - shared):
        raise damaged(path, f"the segments of its sweep have {count} points, its spectra have {points}")
    first = 0 if points == count else 1
    return np.concatenate([np.linspace(*line)[first if index else 0 :] for index, line in enumerate(lines)])


def _add_spectra(
    contents: Contents,
    header: Header,
    labels: list[str],
    values: np.ndarray,
    data: np.ndarray,
    positions: np.ndarray,
) -> None:
    names = Names()
    swept, swept_unit, swept_values = swept_signal(contents, header.text("Sweep Signal"), values)
    recorded = [spectrum_channel(contents, names, label, data[:, i]) for i, label in enumerate(labels)]
    contents.spectra.append(
        RecordedSpectra(
            channels=tuple(channel for channel, _ in recorded),
            swept=swept,
            swept_unit=swept_unit,
            values=swept_values,
            data=np.stack([column for _, column in recorded], axis=1),
            positions=positions,
        )
    )
