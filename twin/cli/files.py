"""The commands that read files on this machine: data, and the journal of a server."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope.cli.options import AddCommand, plain_text, quantity

if TYPE_CHECKING:
    from twinscope.requests import AcquisitionRequest
    from twinscope.results import ChannelData
    from twinscope.storage.journal import Entry


def info(options: argparse.Namespace) -> int:
    """Tell what is in a data file, and whether it is whole."""
    from twinscope.storage.store import describe, load

    metadata, checksums = describe(options.file)
    measurement = load(options.file)
    lines = {
        "id": metadata["id"],
        "state": metadata["state"] + (f": {metadata['error']}" if metadata["error"] else ""),
        "created": metadata["created"],
        "instrument": metadata["instrument"]["instrument"],
        "operator": metadata.get("operator", "unknown"),
        "purpose": metadata.get("purpose") or "none given",
        "where": _place(measurement.request),
        "measured": f"{metadata['traces_done']} of {measurement.request.trace_count} lines",
    }
    lines |= {name: _range(data) for name, data in measurement.items()}
    for warning in metadata["warnings"]:
        lines["note"] = f"{lines['note']}; {warning}" if "note" in lines else warning
    lines["checksums"] = "as they were written" if checksums else "none: the file has no end, see its state"
    for label, text in lines.items():
        print(f"{label:<16} {text}")
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a data file for other programs: NeXus (.nxs), Gwyddion (.gwy), or NSID (.h5)."""
    from twinscope.storage.store import load

    print(load(options.file).export(options.output, options.format))
    return 0


def journal(options: argparse.Namespace) -> int:
    """Print the journal of a server: who did what, and when."""
    count = 0
    for count, entry in enumerate(_entries(options), start=1):  # noqa: B007 - the count is wanted after the loop
        if options.kind and entry.kind not in options.kind:
            continue
        if options.json:
            record = {"n": entry.number, "time": entry.time, "kind": entry.kind}
            print(json.dumps(record | dict(entry.fields)))
        else:
            print(f"{entry.number:>6}  {entry.time}  {entry.kind:<12} {plain_text(entry.fields)}")
    if options.verify:
        print(f"{count} entries fit together: none was changed, taken out or put in", file=sys.stderr)
    return 0


def add_commands(add: AddCommand) -> None:
    """Add the commands of this module."""
    add("info", info).add_argument("file", type=Path, help="of twinscope")

    sub = add("export", export)
    sub.add_argument("file", type=Path, help="of twinscope")
    sub.add_argument("output", type=Path, help="file to write; the suffix tells the format")
    sub.add_argument("--format", help="nsid, nxspm or gwy, whatever the suffix")

    sub = add("journal", journal)
    sub.add_argument(
        "folder", type=Path, nargs="?", default=Path("twinscope-data"), help="of a server's data (default: %(default)s)"
    )
    sub.add_argument("--verify", action="store_true", help="fail if a line was changed, taken out or put in")
    sub.add_argument("--kind", action="append", help="only these, such as lease or blocked; repeatable")
    sub.add_argument("--since", metavar="TIME", help="written then or later, in ISO 8601 (UTC without a time zone)")
    sub.add_argument("--json", action="store_true", help="for programs: one JSON object a line")


def _entries(options: argparse.Namespace) -> "Iterator[Entry]":
    from twinscope.ledger import JOURNAL
    from twinscope.storage._criteria import moment
    from twinscope.storage.journal import read

    path = options.folder / JOURNAL if options.folder.is_dir() else options.folder
    since = "" if options.since is None else moment("since", options.since)
    return (entry for entry in read(path, strict=options.verify) if entry.time >= since)


def _place(request: "AcquisitionRequest") -> str:
    from twinscope.requests import PathRequest, ScanRequest

    if isinstance(request, ScanRequest):
        frame = request.frame
        size, center = quantity("m", *frame.size, between=" x "), quantity("m", *frame.center, between=", ")
        pixels = f"{request.pixels[0]} x {request.pixels[1]} pixels"
        return f"{size} at {center}, {frame.angle:g}°, {pixels}, {request.z_mode}"
    kind = "points" if isinstance(request, PathRequest) else f"spectra of {request.swept}"
    return f"{len(request.positions)} {kind}"


def _range(data: "ChannelData") -> str:
    import numpy as np

    shape = " x ".join(str(length) for length in data.shape)
    measured = data.values[np.isfinite(data.values)]
    return f"{shape}, {quantity(data.unit, measured.min(), measured.max()) if measured.size else 'nothing measured'}"
