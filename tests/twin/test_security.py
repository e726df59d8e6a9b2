"""What strangers and careless clients can do to a server: nothing that another client would notice."""

import marshal
import os
import socket
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import numpy as np
import Pyro5.api
import Pyro5.errors
import pytest
from Pyro5 import protocol

import twinscope
from tests.conftest import ServerProcess, start_server
from twinscope import cli
from twinscope.errors import (
    AuthenticationError,
    ConfigurationError,
    ForbiddenError,
    InvalidRequestError,
    RemoteError,
    ServerUnreachableError,
)
from twinscope.instrument import Instrument
from twinscope.network import _conversation, _guests
from twinscope.network.remote import PyroTransport
from twinscope.network.server import Server

MSGPACK = 4
HEADER = struct.Struct("!4sHBBHHII16sHH")
CONNECT = {"handshake": {}, "object": "twinscope"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "k"
    assert cli.main(["keys", "init", "--keys", str(folder)]) == 0
    for name in ("observer", "operator", "admin"):
        assert cli.main(["keys", "client", name, "--role", name, "--keys", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def _tls_server(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    running = start_server(folder, "--sample", "benzene", "--host", "0.0.0.0", "--keys", str(keys))
    yield running
    running.kill()


@pytest.fixture
def tls_server(_tls_server: ServerProcess) -> str:
    """Address of a server with TLS; it must have survived the tests before."""
    assert _tls_server.process.poll() is None, "a test before this one has brought the server down"
    return f"127.0.0.1:{_tls_server.port}"


@pytest.fixture
def running(instrument: Callable[..., Instrument]) -> Iterator[Callable[..., Server]]:
    """Start servers in this process."""
    started: list[tuple[Server, threading.Thread]] = []

    def start(*arguments: object, **options: object) -> Server:
        server = Server(instrument(), *(arguments or ("127.0.0.1", 0)), **options)
        started.append((server, threading.Thread(target=server.run)))
        started[-1][1].start()
        return server

    yield start
    for server, thread in started:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


def message(kind: int, body: bytes, *, serializer: int = MSGPACK, flags: int = 0, annotations: bytes = b"") -> bytes:
    return header(kind, len(body), serializer, flags, len(annotations)) + annotations + body


def header(kind: int, length: int, serializer: int = MSGPACK, flags: int = 0, annotations: int = 0) -> bytes:
    return HEADER.pack(b"PYRO", 502, kind, serializer, flags, 7, length, annotations, bytes(16), 0, 0x4DC5)


def dialled(server: ServerProcess | Server | str) -> socket.socket:
    port = int((server if isinstance(server, str) else server.uri).rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def introduced(server: ServerProcess | Server) -> socket.socket:
    connection = dialled(server)
    connection.sendall(message(protocol.MSG_CONNECT, msgpack.packb(CONNECT)))
    kind, content = answer(connection)
    assert kind == protocol.MSG_CONNECTOK
    assert content["handshake"]["identity"] == "local"
    return connection


def answer(connection: socket.socket) -> tuple[int, object]:
    start = b""
    while len(start) < HEADER.size and (more := connection.recv(HEADER.size - len(start))):
        start += more
    if not start:
        return 0, None
    _, _, kind, _, _, _, length, annotations, _, _, _ = HEADER.unpack(start)
    body = b""
    while len(body) < length + annotations:
        body += connection.recv(2**16)
    return kind, msgpack.unpackb(body[annotations:])


def call(name: str, parameters: object = None, envelope: object = None, **options: int) -> bytes:
    body = msgpack.packb(("twinscope", "call", (name, parameters or {}, envelope or {}), {}))
    return message(protocol.MSG_INVOKE, body, **options)


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side closes it, at once or after what it still has to say."""
    try:
        while connection.recv(2**16):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


@contextmanager
def served_meanwhile(server: ServerProcess | str, **options: object) -> Iterator[None]:
    """Another client, there before and after, and one that is new, must not notice."""
    address = server if isinstance(server, str) else server.uri
    other = PyroTransport(address, **options)
    yield
    begin = time.monotonic()
    assert other.call("hello").result["protocol"]
    PyroTransport(address, **options).close()
    assert time.monotonic() - begin < 2
    other.close()


# ---------------------------------------------------------------------- before anyone is known


def test_two_hundred_silent_strangers_keep_nobody_out_and_have_to_go(server: ServerProcess, tls_server, keys) -> None:
    with served_meanwhile(server), served_meanwhile(tls_server, keys=keys / "clients" / "observer"):
        silent = [dialled(place) for _ in range(200) for place in (server, tls_server)]
        slow = dialled(server)
        drop = threading.Thread(target=trickled, args=(slow, message(protocol.MSG_CONNECT, msgpack.packb(CONNECT))))
        begin = time.monotonic()
        drop.start()
    assert all(is_closed(connection) for connection in silent)
    drop.join()
    assert time.monotonic() - begin < _guests.HANDSHAKE_TIMEOUT + 3
    assert is_closed(slow)
    for connection in (*silent, slow):
        connection.close()


def trickled(connection: socket.socket, data: bytes) -> None:
    for byte in data:
        try:
            connection.sendall(bytes([byte]))
        except OSError:
            return
        time.sleep(0.2)


@pytest.mark.parametrize(("serializer", "name"), [(1, "serpent"), (2, "json"), (3, "marshal")])
def test_another_serializer_is_refused_before_it_is_parsed(server: ServerProcess, serializer, name) -> None:
    # This marshal announces a tuple of 2^31 - 1 items: parsing it takes minutes and all memory.
    bomb = b"(\xff\xff\xff\x7f" if name == "marshal" else marshal.dumps(CONNECT)
    with served_meanwhile(server), dialled(server) as stranger, introduced(server) as client:
        stranger.sendall(message(protocol.MSG_CONNECT, bomb, serializer=serializer))
        kind, content = answer(stranger)
        assert kind == protocol.MSG_CONNECTFAIL
        assert "only msgpack" in content["error"]["message"]
        client.sendall(message(protocol.MSG_INVOKE, bomb, serializer=serializer))
        assert is_closed(client)


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


@pytest.mark.parametrize(
    "body",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\x7f\xff\xff\xff",
        nested(60_000),
        msgpack.packb({1: 2}),
        msgpack.packb({"handshake": msgpack.ExtType(0x31, b"9" * 5000), "object": "twinscope"}),
        msgpack.packb({"handshake": msgpack.Timestamp(1), "object": "twinscope"}),
        b"\xc1",
        b"",
        b"\xa1\xff",
        msgpack.packb(["handshake"]),
        bytes(np.random.default_rng(7).integers(0, 256, 1000, np.uint8)),
    ],
    ids=lambda body: body[:4].hex(),
)
def test_malformed_msgpack_is_refused(server: ServerProcess, body: bytes) -> None:
    with served_meanwhile(server), dialled(server) as stranger, introduced(server) as client:
        stranger.sendall(message(protocol.MSG_CONNECT, body))
        assert answer(stranger)[0] == protocol.MSG_CONNECTFAIL
        client.sendall(message(protocol.MSG_INVOKE, body))
        assert is_closed(client)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_long_message_is_refused_before_memory_is_reserved(server: ServerProcess) -> None:
    def peak() -> int:
        text = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(text.partition("VmHWM:")[2].split()[0])

    before = peak()
    with served_meanwhile(server):
        for _ in range(20):
            with dialled(server) as stranger, introduced(server) as client:
                stranger.sendall(header(protocol.MSG_CONNECT, 2**16 + 1))
                assert "too long" in answer(stranger)[1]["error"]["message"]
                client.sendall(header(protocol.MSG_INVOKE, 2**31))
                assert is_closed(client)
    assert peak() - before < 10_000, "kB were reserved"


def test_a_compressed_message_is_not_unpacked(server: ServerProcess) -> None:
    body = zlib.compress(bytes(2**25))
    assert len(body) < 2**16
    with served_meanwhile(server), dialled(server) as stranger, introduced(server) as client:
        stranger.sendall(message(protocol.MSG_CONNECT, body, flags=protocol.FLAGS_COMPRESSED))
        assert "not compressed" in answer(stranger)[1]["error"]["message"]
        client.sendall(message(protocol.MSG_INVOKE, body, flags=protocol.FLAGS_COMPRESSED))
        assert is_closed(client)


@pytest.mark.parametrize(
    "annotations",
    [b"x", b"DATA", struct.pack("!4sI", b"DATA", 2**31), struct.pack("!4sI", b"\xff\xff\xff\xff", 0), os.urandom(999)],
)
def test_annotations_that_make_no_sense_are_refused(server: ServerProcess, annotations: bytes) -> None:
    with served_meanwhile(server), dialled(server) as stranger:
        stranger.sendall(message(protocol.MSG_CONNECT, msgpack.packb(CONNECT), annotations=annotations))
        assert answer(stranger)[0] == protocol.MSG_CONNECTFAIL


@pytest.mark.parametrize(
    "noise",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"PYRO\xff\xff" + bytes(99), bytes(10**5)],
    ids=["http", "tls", "version", "zeros"],
)
def test_noise_is_not_answered_for_long(server: ServerProcess, tls_server, keys, noise: bytes) -> None:
    for place, options in ((server, {}), (tls_server, {"keys": keys / "clients" / "observer"})):
        with served_meanwhile(place, **options), dialled(place) as stranger:
            stranger.sendall(noise + bytes(40))
            assert is_closed(stranger)


def test_nothing_can_be_called_without_an_introduction(server: ServerProcess) -> None:
    for name in ("twinscope", "Pyro.Daemon"):
        body = msgpack.packb((name, "call", ("hello", {}, {}), {}))
        with dialled(server) as stranger:
            stranger.sendall(message(protocol.MSG_INVOKE, body))
            assert answer(stranger)[0] == protocol.MSG_CONNECTFAIL


# ---------------------------------------------------------------------- from those who are known


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("Pyro.Daemon", "registered"),
        ("Pyro.Daemon", "info"),
        ("Pyro.Daemon", "get_metadata"),
        ("twinscope", "service"),
        ("twinscope", "_service"),
        ("twinscope", "__getattr__"),
        ("twinscope", "call.__globals__"),
        ("twinscope", None),
        (None, "call"),
    ],
)
def test_there_is_one_method_of_one_object(server: ServerProcess, name, method) -> None:
    with introduced(server) as client:
        client.sendall(message(protocol.MSG_INVOKE, msgpack.packb((name, method, ("service",), {}))))
        kind, content = answer(client)
        assert kind == protocol.MSG_RESULT
        assert "only twinscope.call" in content["args"][0]
        client.sendall(call("hello"))
        assert answer(client)[1]["result"]["protocol"]


@pytest.mark.parametrize(
    "flag",
    [protocol.FLAGS_ONEWAY, protocol.FLAGS_BATCH, protocol.FLAGS_KEEPSERIALIZED, protocol.FLAGS_ITEMSTREAMRESULT],
)
def test_calls_without_an_answer_and_batches_do_nothing(server: ServerProcess, flag: int) -> None:
    with served_meanwhile(server), introduced(server) as client:
        client.sendall(call("acquire_lease", {"purpose": "", "duration": 30.0}, flags=flag))
        assert is_closed(client)
    with twinscope.connect(server.uri) as scope:
        assert scope.state().lease is None


def test_a_name_of_a_class_makes_no_object(server: ServerProcess) -> None:
    """Pyro5 would rebuild a proxy from it, and the server would connect to where the client wants."""
    with socket.create_server(("127.0.0.1", 0)) as trap, introduced(server) as client:
        uri = f"PYRO:x@127.0.0.1:{trap.getsockname()[1]}"
        proxy = {"__class__": "Pyro5.client.Proxy", "state": (uri, (), (), (), "hello", None)}
        for parameters in ({"cursor": proxy}, proxy):
            client.sendall(call("events", parameters))
            assert answer(client)[1]["error"]["code"] == "invalid_request"
        trap.settimeout(0.2)
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.parametrize(
    ("envelope", "message"),
    [
        ({"session": "x"}, "envelope"),
        ([1], "envelope"),
        ({"request_id": 7}, "request_id is 7"),
        ({"request_id": "x" * 1000}, "request_id"),
        ({"lease": "1"}, "lease is '1'"),
        ({"lease": True}, "lease is True"),
        ({"dry_run": 1}, "dry_run is 1"),
    ],
)
def test_an_envelope_that_makes_no_sense_is_refused(server: ServerProcess, envelope, message: str) -> None:
    with introduced(server) as client:
        client.sendall(call("hello", {}, envelope))
        error = answer(client)[1]["error"]
        assert error["code"] == "invalid_request"
        assert message in error["message"]


def test_parameters_that_are_too_much_to_send_are_refused_before_they_are_sent(server: ServerProcess) -> None:
    transport = PyroTransport(server.uri)
    with pytest.raises(InvalidRequestError, match="at most 8388608"):
        transport.call("events", {"cursor": "x" * 2**23})
    with pytest.raises(InvalidRequestError, match="not plain data"):
        transport.call("events", {"cursor": object()})
    assert transport.call("hello").result
    transport.close()


def test_a_client_that_does_not_read_is_given_up(running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_conversation, "SEND_TIMEOUT", 0.5)
    server = running()
    with introduced(server) as deaf:
        # The answers are far more than the system keeps for it.
        deaf.sendall(call("capabilities") * 20_000)
        deadline = time.monotonic() + 20
        while server._guests._known:
            assert time.monotonic() < deadline, "the server still waits for it"
            time.sleep(0.05)
        PyroTransport(server.uri).close()


def test_there_is_a_limit_to_the_connections_of_those_who_are_known(running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guests, "MOST_GUESTS", 3)
    server = running()
    first, *others = [PyroTransport(server.uri) for _ in range(3)]
    with pytest.raises(ServerUnreachableError, match="has 3 connections already"):
        PyroTransport(server.uri)
    first.close()
    deadline = time.monotonic() + 5
    while True:
        try:
            PyroTransport(server.uri).close()
            break
        except ServerUnreachableError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    for transport in others:
        transport.close()


def test_a_plain_pyro5_client_can_call(server: ServerProcess) -> None:
    with Pyro5.api.Proxy(server.uri) as proxy:
        proxy._pyroSerializer = "msgpack"
        assert proxy.call("hello", {}, {})["result"]["role"] == "admin"
        assert set(proxy._pyroMethods) == {"call"}
        with pytest.raises(AttributeError):
            proxy.service()


# ---------------------------------------------------------------------- over a network


@pytest.mark.parametrize("token", [None, "a-token-that-nobody-can-guess"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_a_server_is_not_opened_to_a_network_without_tls(running, host: str, token: str | None) -> None:
    with pytest.raises(ConfigurationError, match="twinscope keys init"):
        running(host, 0, token)


def test_a_short_token_is_not_taken_for_a_network(running, keys: Path) -> None:
    with pytest.raises(ConfigurationError, match="expected 16 at least"):
        running("0.0.0.0", 0, "secret", keys=keys)


def test_roles_of_certificates_hold(tls_server: str, keys: Path) -> None:
    for role in ("observer", "operator", "admin"):
        transport = PyroTransport(tls_server, keys=keys / "clients" / role)
        assert transport.call("hello").result["role"] == role
        transport.close()
    with twinscope.connect(tls_server, keys=keys / "clients" / "observer") as scope:
        assert scope.state()
        with pytest.raises(ForbiddenError, match="operator"), scope.control():
            pass


def test_one_process_talks_to_servers_with_and_without_tls(server: ServerProcess, tls_server, keys: Path) -> None:
    with (
        twinscope.connect(server.uri) as plain,
        twinscope.connect(tls_server, keys=keys / "clients" / "operator") as operator,
        twinscope.connect(tls_server, keys=keys / "clients" / "observer") as observer,
    ):
        for scope in (plain, operator, observer, plain):
            assert scope.state()


def test_a_token_opens_only_with_the_authority_of_the_server(tls_server: str, keys: Path, capsys) -> None:
    assert cli.main(["keys", "token", "robot", "--role", "operator", "--keys", str(keys)]) == 0
    token = capsys.readouterr().out.strip()
    transport = PyroTransport(tls_server, token, keys=keys / "ca.pem")
    assert transport.call("hello").result["identity"] == "robot"
    transport.close()
    for wrong in (None, "", token + "x", token[:-1], "ö"):
        with pytest.raises(AuthenticationError, match="token or a client certificate"):
            PyroTransport(tls_server, wrong, keys=keys / "ca.pem")
    with pytest.raises(ServerUnreachableError, match="give the keys"):
        PyroTransport(tls_server, token)
    cli.main(["keys", "revoke", "robot", "--keys", str(keys)])
    with pytest.raises(AuthenticationError, match="revoked"):
        PyroTransport(tls_server, token, keys=keys / "ca.pem")


def test_keys_for_a_server_without_tls(server: ServerProcess, keys: Path) -> None:
    with pytest.raises(RemoteError, match="TLS"):
        PyroTransport(server.uri, keys=keys / "ca.pem")


def foreign(tmp_path: Path, keys: Path, **files: Path) -> Path:
    """Make a folder of keys that do not belong together."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    for name, source in (
        {"ca.pem": keys / "ca.pem"} | {name.replace("_", "."): f for name, f in files.items()}
    ).items():
        (folder / name).write_bytes(source.read_bytes())
        (folder / name).chmod(0o600)
    return folder


def test_certificates_of_others_open_nothing(tls_server: str, keys: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    cli.main(["keys", "init", "--keys", str(other)])
    cli.main(["keys", "client", "admin", "--role", "admin", "--keys", str(other)])
    theirs = other / "clients" / "admin"
    with pytest.raises(AuthenticationError, match="cannot prove"):
        PyroTransport(tls_server, keys=theirs)
    pretended = foreign(tmp_path, keys, client_pem=theirs / "client.pem", client_key=theirs / "client.key")
    with pytest.raises(AuthenticationError, match="does not take the client certificate"):
        PyroTransport(tls_server, keys=pretended)


def test_the_certificate_of_the_server_is_none_of_a_client(tls_server: str, keys: Path, tmp_path: Path) -> None:
    folder = foreign(tmp_path, keys, client_pem=keys / "server.pem", client_key=keys / "server.key")
    with pytest.raises(AuthenticationError, match="does not take the client certificate"):
        PyroTransport(tls_server, keys=folder)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 is no address of this machine")
def test_the_name_of_the_server_is_verified(tls_server: str, keys: Path) -> None:
    """It listens there, too, but its certificate says nothing of that address."""
    elsewhere = tls_server.replace("127.0.0.1", "127.0.0.2")
    with pytest.raises(AuthenticationError, match=r"cannot prove.*127\.0\.0\.2"):
        PyroTransport(elsewhere, keys=keys / "clients" / "admin")


def test_a_server_may_want_certificates_only(running, keys: Path) -> None:
    server = running("127.0.0.1", 0, "a-token-that-nobody-can-guess", keys=keys, mutual=True)
    with pytest.raises(AuthenticationError, match="does not take the client certificate"):
        PyroTransport(server.uri, "a-token-that-nobody-can-guess", keys=keys / "ca.pem")
    PyroTransport(server.uri, keys=keys / "clients" / "operator").close()


def test_a_connection_ends_when_its_certificate_is_revoked(running, keys: Path, monkeypatch) -> None:
    monkeypatch.setattr(_conversation, "RENEWAL", 0.0)
    cli.main(["keys", "client", "guest", "--role", "operator", "--keys", str(keys)])
    server = running("127.0.0.1", 0, keys=keys)
    guest, other = (PyroTransport(server.uri, keys=keys / "clients" / name) for name in ("guest", "operator"))
    assert guest.call("hello").result["identity"] == "guest"
    cli.main(["keys", "revoke", "guest", "--keys", str(keys)])
    with pytest.raises(AuthenticationError, match="revoked"):
        guest.call("hello")
    assert other.call("hello").result["identity"] == "operator"
    guest.close()
    other.close()
