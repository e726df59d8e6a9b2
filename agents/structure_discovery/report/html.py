"""The report as one HTML file, pictures included."""

import base64
import io
from html import escape
from typing import TYPE_CHECKING

from twinscope.agents.structure_discovery.agent.record import DiscoveryRecord
from twinscope.agents.structure_discovery.report.content import Section, Table, sections

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
body { font: 15px/1.45 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { border-bottom: 1px solid #ccc; padding: 0.15em 0.8em; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
"""


def html_report(record: DiscoveryRecord) -> str:
    """Write everything that was found as an HTML page that needs nothing else."""
    body = "\n".join(_section(section) for section in sections(record))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Structure discovery</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    parts = [f"<h{section.level}>{escape(section.heading)}</h{section.level}>"]
    if section.text:
        parts.append(f"<p>{escape(section.text)}</p>")
    if section.figure is not None:
        data = base64.b64encode(_png(section.figure)).decode("ascii")
        parts.append(f'<img alt="{escape(section.heading)}" src="data:image/png;base64,{data}">')
    if section.table is not None:
        parts.append(_table(section.table))
    return "\n".join(parts)


def _table(table: Table) -> str:
    rows = [_row("th", table.headings), *(_row("td", row) for row in table.rows)]
    return "<table>\n" + "\n".join(rows) + "\n</table>"


def _row(cell: str, texts: tuple[str, ...]) -> str:
    return "<tr>" + "".join(f"<{cell}>{escape(text)}</{cell}>" for text in texts) + "</tr>"


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
