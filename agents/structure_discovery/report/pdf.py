"""The report as a PDF file: one page for each picture or table."""

import textwrap
from pathlib import Path
from typing import Any

from twinscope._optional import import_optional
from twinscope.agents.structure_discovery.agent.record import DiscoveryRecord
from twinscope.agents.structure_discovery.report.content import Section, Table, sections

_PAGE = (8.27, 11.69)
_CHARACTERS = 95
_ROWS = 45


def write_pdf(record: DiscoveryRecord, path: Path) -> None:
    """Write everything that was found.

    Raises
    ------
    MissingPackageError
        When matplotlib is not installed.
    OSError
        When the file cannot be written.
    """
    import_optional("matplotlib", "agents", "a report")
    from matplotlib.backends.backend_pdf import PdfPages

    with PdfPages(path, metadata={"Title": "Structure discovery", "CreationDate": None}) as pages:
        for section in sections(record):
            for page in _pages(section):
                pages.savefig(page)


def _pages(section: Section) -> list[Any]:
    """Figures: one with the text and the table, which may be long, and the picture."""
    lines = [section.heading, "", *textwrap.wrap(section.text, _CHARACTERS), ""]
    if section.table is not None:
        lines += _table(section.table)
    found = []
    if section.figure is not None:
        section.figure.suptitle(section.heading)
        found.append(section.figure)
    if section.table is not None or section.figure is None:
        found = [*(_text_page(lines[first : first + _ROWS]) for first in range(0, len(lines), _ROWS)), *found]
    return found


def _text_page(lines: list[str]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_PAGE)
    figure.text(0.08, 0.95, "\n".join(lines), va="top", family="monospace", fontsize=8)
    return figure


def _table(table: Table) -> list[str]:
    """Columns of equal width, as lines."""
    widths = [max(len(row[column]) for row in (table.headings, *table.rows)) for column in range(len(table.headings))]
    return [
        "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True))
        for row in (table.headings, *table.rows)
    ]
