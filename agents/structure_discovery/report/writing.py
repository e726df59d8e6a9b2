"""The files that a run leaves."""

import json
from pathlib import Path

from twinscope.agents.structure_discovery.agent.record import DiscoveryRecord
from twinscope.agents.structure_discovery.graph.export import write_structure
from twinscope.agents.structure_discovery.report.html import html_report
from twinscope.agents.structure_discovery.report.pdf import write_pdf
from twinscope.errors import StoreError

_SUFFIXES = (".xyz", ".mol")


def write_report(record: DiscoveryRecord, folder: str | Path) -> list[Path]:
    """Write report.html, report.pdf, record.json and, for each molecule, molecule-<number>.xyz and .mol.

    Parameters
    ----------
    record
        Of a run.
    folder
        Made when it is not there. A file that exists is not replaced.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    StoreError
        When they cannot be written.
    MissingPackageError
        When matplotlib is not installed.
    """
    folder = Path(folder)
    names = ["record.json", "report.html", "report.pdf"]
    files = [folder / name for name in names]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            file.touch(exist_ok=False)
        files[0].write_text(json.dumps(record.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        files[1].write_text(html_report(record), encoding="utf-8")
        write_pdf(record, files[2])
    except FileExistsError as exc:
        raise StoreError(f"{exc.filename} exists already: choose another folder for the report") from exc
    except OSError as exc:
        raise StoreError(f"the report cannot be written to {folder}: {exc}") from exc
    for number, molecule in enumerate(record.molecules, start=1):
        if molecule.structure is not None and len(molecule.structure):
            files += [write_structure(molecule.structure, folder / f"molecule-{number}{end}") for end in _SUFFIXES]
    return files
