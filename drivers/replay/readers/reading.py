"""Which reader a file needs, and the recording that it gives."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from twinscope.drivers.replay.readers import (
    gwyddion,
    ibw,
    isolated,
    nanonis_3ds,
    nanonis_dat,
    nanonis_sxm,
    nsid,
    own,
    png,
    tiff,
)
from twinscope.drivers.replay.readers.contents import Contents, damaged, file_size, foreign
from twinscope.drivers.replay.readers.options import SCALE, ReadingOptions
from twinscope.drivers.replay.recording import Recording
from twinscope.errors import ConfigurationError, InvalidRequestError, StoreError

# Bytes that tell a format.
_START = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format that can be read.

    Attributes
    ----------
    read
        The reader. It takes the path and the options.
    begins
        Tells from the first bytes of a file whether it is one.
    suffixes
        Of such files, in small letters.
    options
        Names of the options that make sense.
    """

    read: Callable[[Path, ReadingOptions], Contents]
    begins: Callable[[bytes], bool]
    suffixes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def _magic(*magics: bytes) -> Callable[[bytes], bool]:
    return lambda start: start.startswith(magics)


_HDF5 = _magic(b"\x89HDF\r\n\x1a\n")
_TIFF = _magic(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
FORMATS = {
    "twinscope": Format(read=own.read, begins=_HDF5),
    "nsid": Format(read=nsid.read, begins=_HDF5, suffixes=(".h5", ".hdf5", ".nsid"), options=("keep_units",)),
    "sxm": Format(read=nanonis_sxm.read, begins=_magic(b":NANONIS_VERSION:"), suffixes=(".sxm",)),
    "3ds": Format(read=nanonis_3ds.read, begins=_magic(b"Grid dim="), suffixes=(".3ds",)),
    "dat": Format(read=nanonis_dat.read, begins=_magic(b"Experiment\t"), suffixes=(".dat",)),
    "gwy": Format(read=gwyddion.read, begins=_magic(gwyddion.MAGIC), suffixes=(".gwy",)),
    "ibw": Format(read=ibw.read, begins=ibw.is_wave, suffixes=(".ibw",)),
    "tiff": Format(read=tiff.read, begins=_TIFF, suffixes=(".tif", ".tiff"), options=(*SCALE, "frame_time")),
    "png": Format(read=png.read, begins=_magic(png.MAGIC), suffixes=(".png",), options=SCALE),
}
"""The formats by name."""

_IN_HDF5 = ("twinscope", "nsid")


def read_recording(path: str | Path, *, format: str | None = None, **options: Any) -> Recording:
    """Read the recorded measurements of a file.

    Parameters
    ----------
    path
        The file.
    format
        One of :data:`FORMATS`; unless given, the content tells, and then the suffix.
    options
        What the file does not say: see :class:`~twinscope.drivers.replay.readers.options.ReadingOptions`.

    Raises
    ------
    ConfigurationError
        When the format is not known, or an option is wrong, missing, or makes no sense for the format.
    StoreError
        When the file cannot be read, or is damaged.
    MissingPackageError
        When a package is not installed that reads it.
    """
    path = Path(path)
    if format in _IN_HDF5 or (format is None and _HDF5(_beginning(path))):
        ReadingOptions.from_keywords(options)
        return read_directly(path, isolated.format_of(path, format, options), options)
    return read_directly(path, format, options)


def read_directly(path: Path, format: str | None, options: Mapping[str, Any]) -> Recording:
    """Read a file in this process; the same as :func:`read_recording` where nothing hangs."""
    given = ReadingOptions.from_keywords(options)
    file_size(path)
    name = format if format is not None else recognise(path)
    if name not in FORMATS:
        raise ConfigurationError(f"the format {name!r} is not known: expected {', '.join(FORMATS)}", name="format")
    unused = sorted(set(options) - set(FORMATS[name].options))
    if unused:
        raise ConfigurationError(
            f"the option {unused[0]} makes no sense for {path}: its format {name!r} takes"
            f" {', '.join(FORMATS[name].options) or 'no options'}",
            name=unused[0],
        )
    try:
        contents = FORMATS[name].read(path, given)
    except InvalidRequestError as exc:
        # A frame without size, for example.
        raise damaged(path, exc.message) from exc
    if not contents.images and not contents.spectra:
        why = "; ".join(contents.warnings) or f"the format {name!r} knows nothing that is in it"
        raise StoreError(f"{path} holds neither images nor spectra: {why}", path=str(path))
    return Recording(
        title=path.stem,
        source=path,
        format=name,
        sha256=_checksum(path),
        images=tuple(contents.images),
        spectra=tuple(contents.spectra),
        metadata=contents.metadata,
        warnings=tuple(contents.warnings),
    )


def recognise(path: Path) -> str:
    """Return the name of the format of a file, by its content or else by its suffix.

    Raises
    ------
    ConfigurationError
        When it is none of them.
    StoreError
        When it cannot be read.
    """
    start = _beginning(path)
    if _HDF5(start):
        return "twinscope" if _is_own(path) else "nsid"
    for name, known in FORMATS.items():
        if known.begins(start):
            return name
    for name, known in FORMATS.items():
        if path.suffix.lower() in known.suffixes:
            return name
    raise ConfigurationError(f"the format of {path} is not known: expected one of {', '.join(FORMATS)}", path=str(path))


def _beginning(path: Path) -> bytes:
    file_size(path)
    try:
        with path.open("rb") as file:
            return file.read(_START)
    except OSError as exc:
        raise StoreError(f"{path} cannot be read: {exc}", path=str(path)) from exc


def _is_own(path: Path) -> bool:
    with foreign(path, "h5py"), h5py.File(path, "r", locking=False) as file:
        return "twinscope" in file.attrs and "progress" in file


def _checksum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise StoreError(f"{path} cannot be read: {exc}", path=str(path)) from exc
