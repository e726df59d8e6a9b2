"""The Nanonis TCP protocol: its bytes against bytes written by hand, and what does not fit."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from twinscope.errors import NanonisProtocolError
from twinscope.nanonis_protocol import (
    COMMANDS,
    HEADER_SIZE,
    KINDS,
    LARGEST_REQUEST,
    LARGEST_RESPONSE,
    Command,
    ErrorDialect,
    Field,
    decode_error_block,
    decode_request_header,
    decode_response_header,
    encode_request,
    encode_response,
)

CORE = """
Bias.Set Bias.Get Bias.Pulse Current.Get Current.GainsGet ZCtrl.OnOffSet ZCtrl.OnOffGet ZCtrl.ZPosSet ZCtrl.ZPosGet
ZCtrl.SetpntSet ZCtrl.SetpntGet ZCtrl.GainSet ZCtrl.GainGet ZCtrl.TipLiftSet ZCtrl.SwitchOffDelaySet ZCtrl.Withdraw
ZCtrl.LimitsGet ZCtrl.CtrlListGet ZCtrl.ActiveCtrlSet FolMe.XYPosSet FolMe.XYPosGet FolMe.SpeedSet FolMe.Stop
Scan.Action Scan.StatusGet Scan.WaitEndOfScan Scan.FrameSet Scan.FrameGet Scan.BufferSet Scan.PropsSet Scan.SpeedSet
Scan.FrameDataGrab Signals.NamesGet Signals.ValGet Signals.ValsGet BiasSpectr.Open BiasSpectr.Start BiasSpectr.Stop
BiasSpectr.ChsSet BiasSpectr.PropsSet BiasSpectr.AdvPropsSet BiasSpectr.LimitsSet BiasSpectr.TimingSet
BiasSpectr.TimingGet BiasSpectr.MLSModeSet BiasSpectr.MLSValsSet ZSpectr.Open ZSpectr.Start ZSpectr.ChsSet
ZSpectr.RangeSet PLL.OutOnOffSet PLL.AmpCtrlOnOffSet PLL.PhasCtrlOnOffSet PLL.FreqShiftGet PLL.FreqShiftAutoCenter
AutoApproach.Open AutoApproach.OnOffSet AutoApproach.OnOffGet Motor.StartMove TipShaper.PropsSet TipShaper.PropsGet
TipShaper.Start Piezo.RangeGet Piezo.DriftCompSet Piezo.DriftCompGet Util.VersionGet GenSwp.AcqChsGet GenSwp.LimitsSet
GenSwp.PropsSet GenSwp.Start GenSwp.SwpSignalSet LockIn.ModPhasFreqSet Current.GainSet UserOut.ModeSet UserOut.ValSet
ZCtrl.Home TipRec.DataGet TipRec.DataSave
"""

SAMPLES: dict[str, Any] = {
    "int32": -3,
    "uint32": 2**31 + 1,
    "uint16": 2,
    "float32": 1.5,
    "float64": -2.25e-9,
    "string": "abc",
    "uint8[]": np.array([1, 2], np.uint8),
    "int32[]": np.array([-3, 4], np.int32),
    "uint32[]": np.array([3, 2**32 - 1], np.uint32),
    "float32[]": np.array([0.5, 1.5], np.float32),
    "float64[]": np.array([0.5, 1.5]),
    "int32[same]": np.array([7, 8], np.int32),
    "uint32[same]": np.array([7, 8], np.uint32),
    "float32[same]": np.array([2.5, 3.5], np.float32),
    "float32[,]": np.arange(6, dtype=np.float32).reshape(2, 3),
    "string[]": ("aa", "µ"),
    "string[counted]": ("aa", ""),
    "string[same]": ("", "b"),
    "string[,]": (("key", "value"), ("other", "2")),
}
"""A value of each kind; all arrays have two elements, as some must be as long as the one before."""


def sample(fields: tuple[Field, ...]) -> dict[str, Any]:
    return {field.name: SAMPLES[field.kind] for field in fields}


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(value), err_msg=name)


# --- the table


def test_the_table_has_all_commands_of_the_document() -> None:
    assert len(COMMANDS) == 601
    assert len(set(CORE.split())) == 66 + 12
    assert set(CORE.split()) <= set(COMMANDS)
    for name, command in COMMANDS.items():
        assert command.name == name
        assert len(name) <= 32
        for fields in (command.results, *command.layouts):
            names = [field.name for field in fields]
            assert len(set(names)) == len(names), name
            assert all(field.name.isidentifier() and field.kind in KINDS for field in fields), name


def test_the_argument_list_has_the_arguments_of_all_layouts() -> None:
    command = COMMANDS["Scan.PropsSet"]
    assert [field.name for field in command.arguments][-2:] == ["modules_names", "autopaste"]
    assert command.layouts[0] == command.arguments[:-1]
    assert COMMANDS["Current.GainSet"].arguments[0] == Field("gain_index", "int32")


@pytest.mark.parametrize("family", sorted({name.partition(".")[0] for name in COMMANDS}))
def test_every_command_survives_the_wire(family: str) -> None:
    for command in (command for name, command in COMMANDS.items() if name.startswith(f"{family}.")):
        for layout in command.layouts:
            expected = {field.name: None for field in command.arguments} | sample(layout)
            assert_same(command.decode_arguments(command.encode_arguments(sample(layout))), expected)
        body = command.encode_results(sample(command.results))
        found, rest = command.decode_results(body + b"error")
        assert rest == b"error"
        assert_same(found, sample(command.results))
        empty, rest = command.decode_results(command.encode_results(command.empty_results()))
        assert rest == b""
        assert_same(empty, command.empty_results())


FLOAT32 = st.floats(width=32, allow_nan=True)
COUNT = st.shared(st.integers(0, 4), key="count")
TEXT = st.text(st.characters(codec="utf-8"), max_size=6)


def numbers(dtype: str) -> st.SearchStrategy[Any]:
    return COUNT.flatmap(lambda count: arrays(dtype, count))


TEXTS = COUNT.flatmap(lambda count: st.lists(TEXT, min_size=count, max_size=count).map(tuple))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int32": st.integers(-(2**31), 2**31 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "uint16": st.integers(0, 2**16 - 1),
    "float32": FLOAT32,
    "float64": st.floats(),
    "string": TEXT,
    "uint8[]": numbers("u1"),
    "int32[]": numbers("i4"),
    "uint32[]": numbers("u4"),
    "float32[]": numbers("f4"),
    "float64[]": numbers("f8"),
    "int32[same]": numbers("i4"),
    "uint32[same]": numbers("u4"),
    "float32[same]": numbers("f4"),
    "float32[,]": st.tuples(st.integers(0, 3), st.integers(0, 3)).flatmap(lambda shape: arrays("f4", shape)),
    "string[]": TEXTS,
    "string[counted]": TEXTS,
    "string[same]": TEXTS,
    "string[,]": st.integers(1, 3).flatmap(lambda n: st.lists(st.tuples(*[TEXT] * n), max_size=3).map(tuple)),
}


@settings(max_examples=150, deadline=None)
@given(command=st.sampled_from(list(COMMANDS.values())), data=st.data())
def test_any_values_survive_the_wire(command: Command, data: st.DataObject) -> None:
    results = data.draw(st.fixed_dictionaries({field.name: VALUES[field.kind] for field in command.results}))
    found, rest = command.decode_results(command.encode_results(results))
    assert rest == b""
    assert_same(found, results)
    arguments = data.draw(st.fixed_dictionaries({field.name: VALUES[field.kind] for field in command.layouts[0]}))
    assert_same(command.decode_arguments(command.encode_arguments(arguments)), arguments | _left_out(command))


def _left_out(command: Command) -> dict[str, None]:
    names = [field.name for field in command.layouts[0]]
    return {field.name: None for field in command.arguments if field.name not in names}


# --- bytes written by hand: the four messages of the document's examples, and one of each form of array

POSITION = bytes.fromhex("3E35 798E E230 8C3A BE35 798E E230 8C3A")
XYPOSGET = bytes.fromhex("466F 6C4D 652E 5859 506F 7347 6574 0000 0000 0000 0000 0000 0000 0000 0000 0000")
XYPOSSET = bytes.fromhex("466F 6C4D 652E 5859 506F 7353 6574 0000 0000 0000 0000 0000 0000 0000 0000 0000")


def test_the_request_for_the_position_is_that_of_the_document() -> None:
    body = COMMANDS["FolMe.XYPosGet"].encode_arguments({"wait_for_newest_data": 1})
    message = encode_request("FolMe.XYPosGet", body)
    assert message == XYPOSGET + bytes.fromhex("0000 0004 0001 0000 0000 0001")
    header = decode_request_header(message[:HEADER_SIZE])
    assert (header.name, header.size, header.respond) == ("FolMe.XYPosGet", 4, True)


def test_the_response_with_the_position_is_that_of_the_document() -> None:
    command = COMMANDS["FolMe.XYPosGet"]
    message = encode_response("FolMe.XYPosGet", command.encode_results({"x": 5e-9, "y": -5e-9}))
    assert message == XYPOSGET + bytes.fromhex("0000 0018 0000 0000") + POSITION + bytes(8)
    assert decode_response_header(message[:HEADER_SIZE]).size == 24
    found, rest = command.decode_results(message[HEADER_SIZE:])
    assert found == {"x": 5e-9, "y": -5e-9}
    assert decode_error_block(rest) == (0, "")


def test_the_request_to_move_is_that_of_the_document() -> None:
    body = COMMANDS["FolMe.XYPosSet"].encode_arguments({"x": 10e-9, "y": 15e-9, "wait_end_of_move": 1})
    assert encode_request("FolMe.XYPosSet", body) == XYPOSSET + bytes.fromhex(
        "0000 0014 0001 0000 3E45 798E E230 8C3A 3E50 1B2B 29A4 692B 0000 0001"
    )


def test_the_response_to_a_move_is_that_of_the_document() -> None:
    assert encode_response("FolMe.XYPosSet", b"") == XYPOSSET + bytes.fromhex("0000 0008 0000 0000") + bytes(8)


def test_a_request_without_response_says_so() -> None:
    message = encode_request("FolMe.Stop", b"", respond=False)
    assert message[36:] == bytes(4)
    assert not decode_request_header(message).respond


@pytest.mark.parametrize(
    ("name", "results", "expected"),
    [
        ("TipRec.DataGet", {"channel_indexes": [1], "data": [[0.5], [2.0]]}, "1 1 2 1 f0.5 f2"),
        ("Signals.NamesGet", {"signals_names": ["ab", "c"]}, "11 2 2 tab 1 tc"),
        ("BiasSpectr.ChsGet", {"channel_indexes": [4, 5], "channels": ["ab", "c"]}, "2 4 5 11 2 tab 1 tc"),
        ("Pattern.CloudGet", {"x_coordinates": [1.0], "y_coordinates": [2.0]}, "1 f1 f2"),
        ("Osci1T.DataGet", {"data_t0": 1.0, "data_dt": 2.0, "data_y": [3.0]}, "d1 d2 1 d3"),
        ("Util.SessionPathGet", {"session_path": "C:"}, "2 tC:"),
    ],
)
def test_arrays_have_their_counts_in_front(name: str, results: dict[str, Any], expected: str) -> None:
    assert COMMANDS[name].encode_results(results) == _by_hand(expected)


def test_texts_of_an_argument_have_their_count_in_front() -> None:
    marks = {"x_coordinate": [1.0], "y_coordinate": [2.0], "text": ["m"], "color": [255]}
    assert COMMANDS["Marks.PointsDraw"].encode_arguments(marks) == _by_hand("1 f1 f2 1 1 tm 255")


def _by_hand(words: str) -> bytes:
    """Write integers, "f" float32, "d" float64 and "t" text as bytes."""
    parts = []
    for word in words.split():
        if word[0] in "fd":
            parts.append(struct.pack(f">{word[0]}", float(word[1:])))
        else:
            parts.append(word[1:].encode() if word[0] == "t" else struct.pack(">i", int(word)))
    return b"".join(parts)


@pytest.mark.parametrize(
    ("dialect", "block"),
    [(ErrorDialect.SHORT, "0000 0001 0000 0003 626164"), (ErrorDialect.LONG, "0000 0001 0000 0001 0000 0003 626164")],
)
def test_an_error_has_two_dialects(dialect: ErrorDialect, block: str) -> None:
    message = encode_response("Bias.Get", bytes(4), "bad", dialect=dialect)
    assert message[HEADER_SIZE + 4 :] == bytes.fromhex(block)
    assert decode_error_block(message[HEADER_SIZE + 4 :], dialect) == (1, "bad")
    silent = encode_response("Bias.Get", bytes(4), status=1, dialect=dialect)
    assert decode_error_block(silent[HEADER_SIZE + 4 :], dialect) == (1, "")


def test_text_of_a_windows_code_page_is_read() -> None:
    text = "Tip µ".encode("latin-1")
    found, _ = COMMANDS["Util.SessionPathGet"].decode_results(struct.pack(">i", len(text)) + text)
    assert found == {"session_path": "Tip µ"}


# --- what does not fit


@pytest.mark.parametrize(
    ("name", "values", "complaint"),
    [
        ("Bias.Set", {}, "bias_value is missing"),
        ("Bias.Set", {"bias_value": 1, "speed": 1}, "speed is unknown, expected bias_value"),
        ("Bias.Set", {"bias_value": "1"}, "bias_value is '1', it cannot be sent as float32"),
        ("Bias.Set", {"bias_value": 1e39}, "bias_value is 1e[+]39"),
        ("ZCtrl.ActiveCtrlSet", {"z_controller_index": 1.0}, "int32"),
        ("ZCtrl.ActiveCtrlSet", {"z_controller_index": 2**31}, "int32"),
        ("ZCtrl.OnOffSet", {"z_controller_status": -1}, "uint32"),
        ("BiasSpectr.ChsSet", {"channel_indexes": [1.5]}, "float64"),
        ("BiasSpectr.ChsSet", {"channel_indexes": [2**31]}, "does not fit into int32"),
        ("BiasSpectr.ChsSet", {"channel_indexes": 3}, "0 dimensions"),
        ("Pattern.CloudSet", {"set_active_pattern": 1, "x_coordinates": [1], "y_coordinates": [1, 2]}, "2 elements"),
        ("Pattern.CloudSet", {"set_active_pattern": 1, "x_coordinates": [1e39], "y_coordinates": [1]}, "too large"),
        ("MPass.Load", {"file_path": b"C:"}, "expected text"),
    ],
)
def test_arguments_that_cannot_be_sent_are_refused(name: str, values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(NanonisProtocolError, match=complaint):
        COMMANDS[name].encode_arguments(values)


@pytest.mark.parametrize("value", ["ab", [1], [["a"], []], [["a"], ["b", "c"]]])
def test_a_table_of_texts_must_be_one(value: Any) -> None:
    command = COMMANDS["File.datLoad"]
    with pytest.raises(NanonisProtocolError, match="header"):
        command.encode_results(command.empty_results() | {"header": value})


@pytest.mark.parametrize(
    ("name", "results", "complaint"),
    [
        ("Scan.FrameDataGrab", "0 2147483647 2147483647", "are not there"),
        ("Scan.FrameDataGrab", "0 -1 -1", "neither can be negative"),
        ("Scan.FrameDataGrab", "-5", "are not there"),
        ("Signals.ValsGet", "2147483647 f1", "are not there"),
        ("Signals.ValsGet", "-1", "are not there"),
        ("Signals.NamesGet", "0 2147483647 0", "2147483647 texts are announced where 4 bytes are left"),
        ("Signals.NamesGet", "0 -1 0", "texts are announced"),
        ("File.datLoad", "0 0 0 0 2147483647 0", "expected columns"),
        ("File.datLoad", "0 0 0 0 2147483647 2147483647", "texts are announced"),
    ],
)
def test_counts_that_do_not_fit_are_refused_before_anything_is_made(name: str, results: str, complaint: str) -> None:
    with pytest.raises(NanonisProtocolError, match=f"^{name}: .*{complaint}"):
        COMMANDS[name].decode_results(_by_hand(results))


def test_a_body_that_is_too_long_or_too_short_is_refused() -> None:
    command = COMMANDS["Bias.Set"]
    with pytest.raises(NanonisProtocolError, match="1 of the 5 bytes of the body are too many"):
        command.decode_arguments(bytes(5))
    with pytest.raises(
        NanonisProtocolError, match=r"Bias\.Set: bias_value: 4 bytes are announced at byte 0 of a body of 3"
    ):
        command.decode_arguments(bytes(3))


@pytest.mark.parametrize(
    ("name", "size", "complaint"),
    [
        (b"Bias.Get", -1, "has -1 bytes: expected 0 to"),
        (b"Bias.Get", LARGEST_RESPONSE + 1, "expected 0 to"),
        (b"", 0, "malformed"),
        (b"Bias.Get\0x", 0, "malformed"),
        ("µ".encode(), 0, "malformed"),
        (b"Bias\nGet", 0, "malformed"),
    ],
)
def test_a_malformed_header_is_refused(name: bytes, size: int, complaint: str) -> None:
    header = name.ljust(32, b"\0") + struct.pack(">iI", size, 0)
    for decode in (decode_request_header, decode_response_header):
        with pytest.raises(NanonisProtocolError, match=complaint):
            decode(header)
        with pytest.raises(NanonisProtocolError, match="39 bytes"):
            decode(header[:39])


def test_a_message_that_is_too_large_is_refused_on_both_sides() -> None:
    body = bytes(LARGEST_REQUEST + 1)
    with pytest.raises(NanonisProtocolError, match="1048577 bytes"):
        encode_request("Bias.Set", body)
    with pytest.raises(NanonisProtocolError, match="1048577 bytes"):
        decode_request_header(b"Bias.Set".ljust(32, b"\0") + struct.pack(">iI", len(body), 0))
    with pytest.raises(NanonisProtocolError, match="expected 1 to 32"):
        encode_request("B" * 33, b"")


@settings(max_examples=400, deadline=None)
@given(command=st.sampled_from(list(COMMANDS.values())), body=st.binary(max_size=64))
@example(command=COMMANDS["Scan.FrameDataGrab"], body=b"\x7f\xff\xff\xff" * 3)
def test_garbage_raises_the_one_error(command: Command, body: bytes) -> None:
    for decode in (command.decode_arguments, command.decode_results, decode_error_block, decode_request_header):
        try:
            decode(body)
        except NanonisProtocolError as exc:
            assert exc.message  # noqa: PT017  # most bodies are refused, some happen to be right


@settings(max_examples=400, deadline=None)
@given(
    command=st.sampled_from([command for command in COMMANDS.values() if command.results]),
    where=st.floats(0, 1),
    change=st.binary(min_size=1, max_size=4),
)
def test_a_damaged_response_raises_the_one_error(command: Command, where: float, change: bytes) -> None:
    body = bytearray(command.encode_results(sample(command.results)) + bytes(8))
    place = int(where * len(body))
    body[place : place + len(change)] = change
    try:
        _, rest = command.decode_results(bytes(body))
        decode_error_block(rest)
    except NanonisProtocolError as exc:
        assert exc.message  # noqa: PT017
