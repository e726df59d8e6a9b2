"""Reports of what an agent has found: HTML, PDF, JSON, and the molecules as files for other programs."""

from twinscope.agents.structure_discovery.report.html import html_report as html_report
from twinscope.agents.structure_discovery.report.writing import write_report as write_report
