"""What all readers share: what they return, how they get at the bytes, and what is an error."""

import contextlib
import math
import warnings as python_warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from twinscope.drivers.replay.readers.units import si_unit
from twinscope.drivers.replay.recording import RecordedImage, RecordedSpectra
from twinscope.errors import StoreError, TwinscopeError

LARGEST_FILE = 2**31
"""Bytes that a file may have."""

LARGEST_DATA = 2**30
"""Bytes that one array may have, also when a small file says that there are more."""


@dataclass(slots=True, kw_only=True)
class Contents:
    """What a reader found in a file; it is filled while the file is read.

    Attributes
    ----------
    images, spectra, metadata, warnings
        As in :class:`~twinscope.drivers.replay.recording.Recording`.
    """

    images: list[RecordedImage] = field(default_factory=list)
    spectra: list[RecordedSpectra] = field(default_factory=list)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def warn(self, sentence: str) -> None:
        """Attach a sentence for people, once."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def to_si(self, label: str, unit: str, values: np.ndarray) -> tuple[str, np.ndarray]:
        """Return the SI unit and the values in it; a unit that is not understood is kept, with a warning."""
        si = si_unit(unit)
        if not si.known:
            self.warn(f"the unit {unit!r} of {label!r} is not known: its values are kept as they are")
        return si.name, values if si.factor == 1.0 else _times(values, si.factor)


def _times(values: np.ndarray, factor: float) -> np.ndarray:
    # float32 would lose what an integer of 32 bits holds.
    exact: np.ndarray = values if values.dtype.kind == "f" else values.astype(float)
    scaled: np.ndarray = exact * exact.dtype.type(factor)
    return scaled


def damaged(path: Path, what: str) -> StoreError:
    """Make the error for a file that does not hold what it should."""
    return StoreError(f"{path} cannot be read: {what}: is it damaged, or was it cut off?", path=str(path))


def file_size(path: Path) -> int:
    """Return the size of a file in bytes.

    Raises
    ------
    StoreError
        When there is no such file, or it is none to be read: a folder, a pipe, empty, or too large.
    """
    try:
        # What is no regular file may block or never end.
        if not path.is_file():
            raise StoreError(f"{path} is not a file: give the path of a recording", path=str(path))
        size = path.stat().st_size
    except (OSError, ValueError) as exc:
        if isinstance(exc, StoreError):
            raise
        raise StoreError(f"{path} cannot be read: {exc}", path=str(path)) from exc
    if not size:
        raise damaged(path, "it is empty")
    if size > LARGEST_FILE:
        raise StoreError(
            f"{path} has {size / 1e9:.3g} GB: at most {LARGEST_FILE / 1e9:.3g} GB are read", path=str(path)
        )
    return size


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises
    ------
    StoreError
        When it cannot be read.
    """
    file_size(path)
    try:
        return path.read_bytes()
    except OSError as exc:
        raise StoreError(f"{path} cannot be read: {exc}", path=str(path)) from exc


def check_size(path: Path, shape: tuple[int, ...], bytes_each: int = 8) -> None:
    """Raise :class:`StoreError` when an array of this shape would be empty or too large."""
    size = math.prod(shape) * bytes_each
    if min(shape, default=0) < 1 or size > LARGEST_DATA:
        raise damaged(
            path, f"its data have the shape {shape}, expected 1 or more each and at most {LARGEST_DATA / 1e9:.3g} GB"
        )


@contextlib.contextmanager
def foreign(path: Path, package: str) -> Iterator[None]:
    """Turn whatever another package raises over a damaged file into a :class:`StoreError`."""
    try:
        with python_warnings.catch_warnings():
            # What it says about an odd file is no news to whoever reads the recording.
            python_warnings.simplefilter("ignore")
            yield
    except TwinscopeError:
        raise
    except Exception as exc:
        # These packages are written for sound files: they raise anything from AssertionError to struct.error.
        reason = " ".join(str(exc).split())[:200] or type(exc).__name__
        raise damaged(path, f"{package} says: {reason}") from exc
