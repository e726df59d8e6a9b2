"""Export of results to files for other programs; see :meth:`Measurement.export`."""

from pathlib import Path

from twinscope.errors import InvalidRequestError, StoreError
from twinscope.results import Measurement
from twinscope.storage import gwyddion, nexus

SUFFIXES = {".h5": "nsid", ".nsid": "nsid", ".nxs": "nxspm", ".gwy": "gwy"}
"""Format of each suffix."""


def export(measurement: Measurement, path: Path, format: str | None) -> Path:
    """See :meth:`Measurement.export`."""
    wanted = SUFFIXES.get(path.suffix.lower()) if format is None else format
    if wanted not in SUFFIXES.values():
        formats = ", ".join(f"{name} ({suffix})" for suffix, name in SUFFIXES.items())
        raise InvalidRequestError(
            f"{str(path)!r} in the format {format!r} cannot be written: expected one of {formats}"
        )
    if wanted == "nsid":
        return measurement.save(path)
    write = nexus.write if wanted == "nxspm" else gwyddion.write
    try:
        write(measurement, path)
    except FileExistsError as exc:
        raise StoreError(f"{path} exists already: choose another name") from exc
    except OSError as exc:
        raise StoreError(f"{path} cannot be written: {exc}") from exc
    return path
