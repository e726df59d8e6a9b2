"""Which files are replayed, and what they hold."""

from dataclasses import replace
from pathlib import Path

from twinscope.drivers.replay.options import ReplayOptions
from twinscope.drivers.replay.readers import FORMATS, read_recording
from twinscope.drivers.replay.recording import Recording
from twinscope.errors import ConfigurationError, StoreError

# Bytes that tell whether a file may be a recording.
_START = 512


def read_files(options: ReplayOptions) -> list[Recording]:
    """Read all recordings; what is left out of a folder is among the warnings of the first one.

    Raises
    ------
    ConfigurationError
        When there is none, one cannot be read, or is too large.
    MissingPackageError
        When a package is not installed that reads one.
    """
    given = (options.file,) if isinstance(options.file, Path) else options.file
    try:
        paths, left_out = _found(given, any_format=options.format is not None)
    except OSError as exc:
        raise ConfigurationError(f"{', '.join(map(str, given))} cannot be looked at: {exc}", name="file") from exc
    if not paths:
        among = f": {', '.join(left_out)} are none" if left_out else ""
        raise ConfigurationError(
            f"file is {', '.join(map(str, given)) or 'empty'}: expected recordings, there are none{among}", name="file"
        )
    for path in paths:
        _check_size(path, options.largest_file)
    try:
        first, *others = (read_recording(path, format=options.format, **dict(options.scale or {})) for path in paths)
    except StoreError as exc:
        raise ConfigurationError(exc.message, name="file") from exc
    warnings = tuple(f"{name} is left out: it is none of the formats that can be read" for name in left_out)
    return [replace(first, warnings=first.warnings + warnings), *others]


def _found(given: tuple[Path, ...], *, any_format: bool) -> tuple[list[Path], list[str]]:
    """Return all files, those of folders in the order of their names, and the names of those that are left out."""
    paths, left_out = [], []
    for path in given:
        if not path.is_dir():
            paths.append(path)
            continue
        for one in sorted(path.iterdir()):
            if not one.is_file():
                continue
            if any_format or _may_be_recording(one):
                paths.append(one)
            else:
                left_out.append(one.name)
    return paths, left_out


def _may_be_recording(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_START)
    return any(known.begins(start) or path.suffix.lower() in known.suffixes for known in FORMATS.values())


def _check_size(path: Path, largest: int) -> None:
    size = path.stat().st_size if path.is_file() else 0
    if size > largest:
        raise ConfigurationError(
            f"{path} has {size} bytes: expected at most {largest}, see the option largest_file", name="largest_file"
        )
