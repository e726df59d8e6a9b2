"""The table of the Nanonis protocol against what the vendor's own client, nanonis_spm, sends and reads."""

import inspect
from typing import Any

import numpy as np
import pytest

from twinscope.errors import NanonisProtocolError
from twinscope.nanonis_protocol import (
    COMMANDS,
    HEADER_SIZE,
    Command,
    Field,
    decode_request_header,
    encode_response,
)

LIBRARY_LACKS = """
BiasSpectr.SafeCond1Set BiasSpectr.SafeCond1Get BiasSpectr.SafeCond2Set BiasSpectr.SafeCond2Get ZSpectr.Retract2ndSet
ZSpectr.Retract2ndGet Scan.WaitEndOfLine PLL.PerfectPLLApply PLL.PerfectPLLUpdtZTC PLLQCtrl.AccessRequest
PLLQCtrl.AccessGet PLLQCtrl.OnOffSet PLLQCtrl.OnOffGet PLLQCtrl.QGainSet PLLQCtrl.QGainGet PLLQCtrl.PhaseSet
PLLQCtrl.PhaseGet Osci2T.ChsSet Osci2T.ChsGet Util.SessionPathSet File.datLoad
"""
"""Commands of the document that nanonis_spm 1.0.9 has no function for."""

OTHER_ARGUMENTS = {
    "Osci1T.TimebaseGet": "sends Osci1T.TimebaseSet",
    "Osci1T.TrigGet": "sends the arguments of TrigSet",
    "Osci2T.TimebaseSet": "sends Osci1T.TimebaseSet",
    "Osci2T.TimebaseGet": "sends Osci1T.TimebaseSet",
    "Osci2T.OversamplGet": "sends Osci2T.OversamplSet",
    "Osci2T.TrigGet": "sends the arguments of TrigSet",
}
"""Where the library is wrong: it sends another command, or what it cannot know."""

OTHER_RESULTS = {
    "BiasSpectr.StatusGet": "reads no result",
    "BiasSpectr.ChsGet": "reads a count before the names; nanonisTCP reads what the document says",
    "BiasSpectr.PropsGet": "reads other results at the end",
    "ZSpectr.ChsGet": "reads a count before the names",
    "ZSpectr.PropsGet": "does not read save_all",
    "Scan.PropsGet": "reads autopaste and more, of a later release",
    "GenSwp.AcqChsGet": "reads names, too",
    "GenSwp.SwpSignalGet": "does not read the names",
    "HSSwp.SaveBasenameGet": "fails",
    "HSSwp.SwpChSigListGet": "fails",
    "PLL.PhasCtrlGainGet": "does not read the integral gain",
    "PLLSignalAnlzr.OsciDataGet": "fails",
    "SpectrumAnlzr.DataGet": "fails",
    "Util.VersionGet": "fails",
} | OTHER_ARGUMENTS
"""Where the library reads something else than the document says that the controller sends."""


class Recorder:
    """What nanonis_spm takes for a connected socket: keeps what is sent and has the answer ready."""

    def __init__(self, answer: bytes) -> None:
        self.sent = b""
        self._answer = answer

    def sendall(self, data: bytes) -> None:
        self.sent += bytes(data)

    send = sendall

    def recv(self, size: int) -> bytes:
        taken, self._answer = self._answer[:size], self._answer[size:]
        return taken

    def settimeout(self, seconds: float | None) -> None:
        pass


SAMPLES: dict[str, Any] = {
    "int32": 3,
    "uint32": 1,
    "uint16": 2,
    "float32": 1.5,
    "float64": -2.25,
    "string": "abc",
    "uint8[]": np.array([1, 2], np.uint8),
    "int32[]": np.array([3, 4]),
    "uint32[]": np.array([3, 4]),
    "float32[]": np.array([0.5, 1.5]),
    "float64[]": np.array([0.5, 1.5]),
    "int32[same]": np.array([7, 8]),
    "uint32[same]": np.array([7, 8]),
    "float32[same]": np.array([2.5, 3.5]),
    "float32[,]": np.arange(6.0).reshape(2, 3),
    "string[]": ("aa", "b"),
    "string[counted]": ("aa", "b"),
    "string[same]": ("", "b"),
}
"""What the library can send and read: it counts the letters of a text, not its bytes."""
COUNTED_BY_USER = ("no_of", "nr_", "number_of", "num_")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _positional(function: Any, layout: tuple[Field, ...]) -> list[Any]:
    """Arguments for the library's function; in some the user counts the elements of arrays, before them."""
    names = list(inspect.signature(function).parameters)
    values: list[Any] = []
    for field in layout:
        if field.kind.endswith("[]") and len(names) > len(layout):
            values += [2] if names[len(values)].lower().startswith(COUNTED_BY_USER) else []
        values.append(_plain(SAMPLES[field.kind]))
    return values


def _as_the_library_shows(fields: tuple[Field, ...]) -> list[Any]:
    """Return the samples with the counts that the library hands to its user."""
    shown: list[Any] = []
    for field in fields:
        value = SAMPLES[field.kind]
        if field.kind.startswith("string") and isinstance(value, tuple):
            shown.append(sum(4 + len(text) for text in value))
        if field.kind.endswith("[]") or field.kind == "string":
            shown.append(len(value))
        if field.kind.endswith("[,]"):
            shown += [len(value), len(value[0])]
        if isinstance(value, np.ndarray) and value.ndim == 1:
            value = [[element] for element in value.tolist()]
        shown.append(_plain(value))
    return shown


def _call(command: Command) -> tuple[bytes, Any]:
    """Call the library's function; return what it sent and what it made of the response."""
    nanonis_spm = pytest.importorskip("nanonis_spm")
    results = {field.name: SAMPLES[field.kind] for field in command.results}
    recorder = Recorder(encode_response(command.name, command.encode_results(results)))
    function = getattr(nanonis_spm.Nanonis(recorder), command.name.replace(".", "_"))
    wanted = len(inspect.signature(function).parameters)
    calls = [_positional(function, layout) for layout in command.layouts]
    arguments = next((call for call in calls if len(call) == wanted), [1] * wanted)
    try:
        answer = function(*arguments)
    except Exception as exc:
        answer = repr(exc)
    return recorder.sent, answer


def _is_understood(command: Command, sent: bytes) -> bool:
    if len(sent) < HEADER_SIZE or decode_request_header(sent[:HEADER_SIZE]).name != command.name:
        return False
    try:
        found = command.decode_arguments(sent[HEADER_SIZE:])
    except NanonisProtocolError:
        return False
    given = {name: value for name, value in found.items() if value is not None}
    layout = next(one for one in command.layouts if {field.name for field in one} == set(given))
    return all(_plain(given[field.name]) == _plain(SAMPLES[field.kind]) for field in layout)


def _is_read(command: Command, answer: Any) -> bool:
    if not isinstance(answer, tuple) or not answer:
        return False
    error, _, values = answer
    return not error and _listed(values) == _as_the_library_shows(command.results)


def _listed(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_listed(element) for element in value] if isinstance(value, tuple | list) else value


SHARED_COMMANDS = [command for name, command in COMMANDS.items() if name not in LIBRARY_LACKS.split()]
FAMILIES = sorted({command.name.partition(".")[0] for command in SHARED_COMMANDS})


@pytest.mark.parametrize("family", FAMILIES)
def test_the_vendors_client_sends_and_reads_what_the_table_says(family: str) -> None:
    for command in (one for one in SHARED_COMMANDS if one.name.startswith(f"{family}.")):
        sent, answer = _call(command)
        assert _is_understood(command, sent) != (command.name in OTHER_ARGUMENTS), (command.name, sent)
        assert _is_read(command, answer) != (command.name in OTHER_RESULTS), (command.name, answer)
