"""What the documentation says is run: its code, its commands, its links and its tables."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

import twinscope
import twinscope.errors
import twinscope.network._sockets
from twinscope import cli
from twinscope.service import Service

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
# Commands that end by themselves and need no other computer, and those of them that go to a server.
SERVED = ("status", "watch", "scan", "find", "jobs", "events", "stop", "acknowledge", "withdraw", "approach")
RUNNABLE = (*SERVED, "simulate", "drivers", "info", "export", "journal", "keys")
# What the server of a page is started with.
SERVERS = {
    "nanonis.md": ("--sample", "ptcda", "--nanonis"),
    "network.md": ("--sample", "ptcda", "--keys", "twinscope-keys"),
}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@dataclass(frozen=True)
class Block:
    """A block of code in a page; `line` is the number of lines before its first."""

    language: str
    code: str
    line: int


def blocks_of(page: Path) -> Iterator[Block]:
    """Fenced blocks, in their order."""
    text = page.read_text()
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield Block(match[1], match[2], text[: match.start(2)].count("\n"))


def commands_of(block: Block) -> Iterator[list[str]]:
    """Arguments of each ``twinscope`` in a shell block."""
    for line in block.code.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["twinscope"]:
            yield words[1:]


@dataclass
class DefaultServer:
    """A server that ``connect("localhost")`` finds, started when the first block of a page needs it."""

    serve: Callable[..., Any]
    monkeypatch: pytest.MonkeyPatch
    started: bool = False

    def be_there(self, page: Path) -> None:
        if self.started:
            return
        server = self.serve(*SERVERS.get(page.name, ("--sample", "ptcda")))
        self.monkeypatch.setattr(twinscope.network._sockets, "DEFAULT_PORT", server.port)
        Path("twinscope-data").symlink_to(server.data)
        self.started = True


@pytest.fixture
def default_server(serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> DefaultServer:
    return DefaultServer(serve, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(600)
@each_page
def test_the_code_of_a_page_runs_from_top_to_bottom(
    page: Path, default_server: DefaultServer, monkeypatch, tmp_path: Path
) -> None:
    """Python blocks share one namespace; commands and files between them are in the same folder, for the same server.

    A TOML block is the file that its first line names.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names: dict[str, Any] = {"__name__": page.stem}
    for block in blocks_of(page):
        if block.language == "python":
            if 'connect("localhost"' in block.code:
                default_server.be_there(page)
            # Empty lines before it, so that an error names the line of the page.
            exec(compile("\n" * block.line + block.code, str(page), "exec"), names)
        elif block.language == "bash":
            for words in commands_of(block):
                if words[0] in RUNNABLE and "--address" not in words:
                    if words[0] in SERVED:
                        default_server.be_there(page)
                    assert cli.main(words) == 0, words
        elif block.language == "toml":
            Path(block.code.split()[1].rstrip(":")).write_text(block.code)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@each_page
def test_the_commands_of_a_page_exist(page: Path) -> None:
    for block in blocks_of(page):
        if block.language == "bash":
            for words in commands_of(block):
                cli._parser().parse_args(words)


@each_page
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings], target


def test_every_page_can_be_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index


def test_the_reference_has_every_command_and_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    said = subprocess.run([sys.executable, "-m", "twinscope", "--help"], capture_output=True, text=True, check=True)
    commands = re.findall(r"^    ([a-z-]+)(?:  |$)", said.stdout, re.MULTILINE)
    assert {"serve", "scan", "break-lease", "acknowledge"} <= set(commands)
    for command in commands:
        assert re.search(rf"^\|[^|]*`{command}[` ]", REFERENCE, re.MULTILINE), command
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        for option in set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}:
            assert f"`{option}" in REFERENCE, f"{command} {option}"


def test_the_reference_has_every_option_of_the_simulator_with_its_default() -> None:
    from twinscope.drivers.simulator.options import SimulatorOptions
    from twinscope.drivers.simulator.world_options import WorldOptions

    for options in (SimulatorOptions(), WorldOptions()):
        for field in fields(options):
            assert f"\n| `{field.name}` | `{getattr(options, field.name)!r}` |" in REFERENCE


def test_the_reference_has_every_field_of_the_realism_with_its_value_in_each_profile() -> None:
    from twinscope.drivers.common.realism import PROFILES, Realism, realism_from_option

    def written(value: Any) -> str:
        return f"({', '.join(f'{part:g}' for part in value)})" if isinstance(value, tuple) else f"{value:g}"

    for field in fields(Realism):
        values = [written(getattr(realism_from_option(profile), field.name)) for profile in PROFILES]
        assert f"\n| `{field.name}` | {' | '.join(values)} |" in REFERENCE


def test_the_reference_has_every_rule_of_the_interlocks() -> None:
    for rules in (twinscope.Interlocks, twinscope.SignalRule, twinscope.Region):
        table = REFERENCE.partition(f"| Field of `{rules.__name__}` |")[2].partition("\n\n")[0]
        for field in fields(rules):
            assert f"`{field.name}`" in table


def test_the_reference_has_every_name_error_and_verb() -> None:
    for name in twinscope.__all__:
        assert re.search(rf"`\.?{name}\b", REFERENCE) or name == "TwinscopeError", name
    for name, member in vars(twinscope.errors).items():
        if isinstance(member, type) and issubclass(member, Exception):
            assert re.search(rf"\b{name} ?", REFERENCE), name
    for name in Service.verbs():
        assert f"`{name}`" in REFERENCE, name


def test_the_notebooks_are_stored_without_results() -> None:
    notebooks = list((ROOT / "notebooks").glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        for cell in json.loads(path.read_text())["cells"]:
            assert not cell.get("outputs"), f"{path.name}, cell {cell['id']}"
            assert cell.get("execution_count") is None, f"{path.name}, cell {cell['id']}"
