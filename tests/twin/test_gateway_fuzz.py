"""Malformed, oversized and hostile Nanonis packets: the gateway answers or hangs up, and goes on."""

import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.twin.nanonis_wire import WireClient
from twinscope.gateway import NanonisGateway
from twinscope.gateway.answers import answer_to
from twinscope.gateway.call import Call
from twinscope.gateway.controller import Controller
from twinscope.gateway.conversation import Conversation
from twinscope.gateway.operator import Operator
from twinscope.interlocks import Interlocks
from twinscope.nanonis_protocol import (
    COMMANDS,
    HEADER_SIZE,
    ErrorDialect,
    decode_error_block,
    decode_response_header,
)
from twinscope.service import Service
from twinscope.sessions import Role

_PACKETS = 100_000
_NAMES = sorted(COMMANDS)
# Numbers at which programs tend to go wrong, as four bytes.
_EDGES = [struct.pack(">i", number) for number in (0, 1, -1, 2**31 - 1, -(2**31), 127, 128, 255, 65536)]
_EDGES += [struct.pack(">f", number) for number in (1e-9, -1e-9, 1e30, float("nan"), float("inf"), 1e-45)]


@pytest.fixture
def service(instrument: Callable[..., Any]) -> Service:
    one = instrument()
    assert one.wait_ready(5)
    return Service(one)


@pytest.fixture
def operator(service: Service) -> Iterator[Operator]:
    # What is right by accident is done: the tip is moved, scans are begun.
    opened = Operator(service, Role.OPERATOR, 300.0)
    yield opened
    opened.close()


def body(choice: random.Random) -> bytes:
    return b"".join(
        choice.choice(_EDGES) if choice.random() < 0.7 else choice.randbytes(choice.randrange(9))
        for _ in range(choice.randrange(12))
    )


def packet(choice: random.Random) -> bytes:
    """A request of which something or nothing is wrong."""
    name = choice.choice(_NAMES).encode() if choice.random() < 0.9 else choice.randbytes(choice.randrange(33))
    content = body(choice)
    size = len(content) if choice.random() < 0.98 else choice.choice([-1, 2**31 - 1, 2**20 + 1])
    return struct.pack(">32siHH", name, size, choice.randrange(2), 0) + content


def test_the_handlers_answer_a_hundred_thousand_wrong_bodies_in_their_form(operator: Operator) -> None:
    controller = Controller(operator, Interlocks())
    call = Call(controller, lambda: None)
    choice = random.Random(20261127)
    texts = 0
    for _ in range(_PACKETS):
        name = choice.choice(_NAMES)
        answer = answer_to(name, body(choice), call)
        header = decode_response_header(answer[:HEADER_SIZE])
        assert (header.name, header.size) == (name, len(answer) - HEADER_SIZE)
        _, rest = COMMANDS[name].decode_results(answer[HEADER_SIZE:])
        status, text = decode_error_block(rest)
        assert bool(text) == (status == 1)
        assert "internal error" not in text, (name, text)
        texts += status
    assert 0.5 * _PACKETS < texts < _PACKETS


def test_a_conversation_ends_or_goes_on_whatever_it_is_sent(operator: Operator) -> None:
    controller = Controller(operator, Interlocks())
    choice = random.Random(1)
    for _ in range(300):
        ours, theirs = socket.socketpair()
        conversation = Conversation(theirs, "fuzz", controller, ErrorDialect.SHORT)
        thread = threading.Thread(target=conversation.run)
        thread.start()
        with ours:
            ours.sendall(b"".join(packet(choice) for _ in range(choice.randrange(1, 20))))
            ours.shutdown(socket.SHUT_WR)
            ours.settimeout(20)
            try:
                while ours.recv(2**16):
                    pass
            except ConnectionResetError:
                # It has hung up without reading the rest.
                pass
        thread.join(20)
        assert not thread.is_alive()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(_NAMES), content=st.binary(max_size=200))
def test_no_body_of_any_command_is_an_internal_error(operator: Operator, name: str, content: bytes) -> None:
    answer = answer_to(name, content, Call(Controller(operator, Interlocks()), lambda: None))
    assert b"internal error" not in answer


def test_hundreds_of_hostile_packets_over_a_real_socket_leave_the_gateway_up(service: Service) -> None:
    gateway = NanonisGateway(service, (0,))
    gateway.start()
    choice = random.Random(2)
    try:
        for _ in range(300):
            with socket.create_connection(("127.0.0.1", gateway.ports[0]), 20) as peer:
                try:
                    peer.sendall(packet(choice) + choice.randbytes(choice.randrange(80)))
                except (BrokenPipeError, ConnectionResetError):
                    # It has hung up already.
                    continue
        with WireClient(gateway.ports[0]) as client:
            assert client("Util.VersionGet")["rt_engine_release"] > 0
    finally:
        gateway.close()
