"""Addresses, sockets, and what happens to a call when its connection is lost."""

import contextlib
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from twinscope.errors import ConfigurationError, InvalidRequestError, RemoteError, ServerUnreachableError
from twinscope.instrument import Instrument
from twinscope.network._sockets import Address, listen, remove
from twinscope.network.remote import PyroTransport
from twinscope.network.server import Server

needs_unix_sockets = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")


class Running:
    """A server in this process."""

    def __init__(self, instrument: Instrument, host: str = "127.0.0.1", port: int = 0) -> None:
        self.server = Server(instrument, host, port)
        self.uri = self.server.uri
        self._thread = threading.Thread(target=self.server.run)
        self._thread.start()

    def stop(self) -> None:
        self.server.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def running(instrument: Callable[..., Instrument]) -> Iterator[Running]:
    server = Running(instrument())
    yield server
    server.stop()


class Relay:
    """Passes bytes on to a server, and cuts connections when it is told to."""

    def __init__(self, uri: str) -> None:
        self._target = Address.parse(uri)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.cut_before_answer = 0
        self.opened = 0
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._accepting, *self._threads):
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.opened += 1
            server = self._target.dial(5)
            for pair in ((client, server, False), (server, client, True)):
                self._threads.append(threading.Thread(target=self._pass_on, args=pair))
                self._threads[-1].start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        source.settimeout(30)
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                if answers and self.cut_before_answer:
                    self.cut_before_answer -= 1
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()


@pytest.fixture
def relay(running: Running) -> Iterator[Relay]:
    between = Relay(running.uri)
    yield between
    between.close()


# ---------------------------------------------------------------------- lost connections


@pytest.mark.parametrize("times", [1, 3])
def test_a_request_whose_answer_is_lost_is_carried_out_once(relay: Relay, times: int) -> None:
    transport = PyroTransport(relay.address)
    before = transport.call("state").result["revision"]
    # Of each second connection the greeting would be cut, too, and that is one of the times.
    relay.cut_before_answer = times
    lease = transport.call("acquire_lease", {"purpose": "test", "duration": 30.0}).result
    state = transport.call("state").result
    assert relay.opened == times + 1
    assert state["lease"] is not None
    job = transport.call("move_to", {"x": 1e-9}, lease=lease["lease"]).result
    assert transport.call("wait_job", {"id": job["id"], "timeout": 5.0}).result["over"]
    relay.cut_before_answer = 1
    again = transport.call("move_to", {"x": 2e-9}, lease=lease["lease"]).result
    jobs = transport.call("jobs").result
    assert [one["id"] for one in jobs][-2:] == [job["id"], again["id"]]
    assert transport.call("state").result["revision"] > before
    transport.close()


def test_what_is_fetched_ahead_arrives_whole_when_the_connection_is_lost(relay: Relay) -> None:
    transport = PyroTransport(relay.address)
    relay.cut_before_answer = 1
    space = [memoryview(bytearray(8)) for _ in range(10)]
    answers = list(transport.fetch("hello", [{}] * 10, space))
    assert [answer.result["instrument"] for answer in answers] == ["ramp"] * 10
    assert relay.opened == 2
    assert transport.call("state").result["status"] == "idle"
    transport.close()


def test_all_threads_of_a_client_are_one_session(relay: Relay) -> None:
    transport = PyroTransport(relay.address)
    lease = transport.call("acquire_lease", {"purpose": "test", "duration": 30.0}).result["lease"]
    barrier = threading.Barrier(4)

    def renew(_: int) -> None:
        barrier.wait(10)
        for _ in range(20):
            transport.call("renew_lease", lease=lease)

    with ThreadPoolExecutor(4) as pool:
        relay.cut_before_answer = 2
        list(pool.map(renew, range(4)))
    assert relay.opened <= 4 + 2 + 4
    transport.close()


def test_an_interrupted_call_leaves_no_answer_behind(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection of a call that was broken off is not used again: its answer would be taken for another's."""
    transport = PyroTransport(running.uri, timeout=0.2)
    monkeypatch.setattr("twinscope.network.remote.LONGEST_WAIT", 0.0)
    run = transport.call("events").result["cursor"]
    with pytest.raises(ServerUnreachableError, match="did not answer in time"):
        transport.call("events", {"cursor": run, "timeout": 1.0})
    for _ in range(3):
        assert "protocol" in transport.call("hello").result
    transport.close()


def test_a_server_that_comes_back_in_time_is_found(instrument: Callable[..., Instrument]) -> None:
    first = Running(instrument())
    transport = PyroTransport(first.uri, timeout=5)
    port = Address.parse(first.uri).port
    first.stop()
    started: list[Running] = []
    timer = threading.Timer(0.5, lambda: started.append(Running(instrument(), port=port)))
    timer.start()
    begin = time.monotonic()
    assert transport.call("hello").result
    assert time.monotonic() - begin > 0.4
    timer.join()
    transport.close()
    started[0].stop()


def test_a_server_that_does_not_come_back_is_given_up(instrument: Callable[..., Instrument]) -> None:
    server = Running(instrument())
    transport = PyroTransport(server.uri, timeout=0.5)
    server.stop()
    begin = time.monotonic()
    with pytest.raises(ServerUnreachableError, match="twinscope serve"):
        transport.call("hello")
    assert 0.2 < time.monotonic() - begin < 3
    transport.close()


def test_closing_ends_a_call_that_waits(running: Running) -> None:
    transport = PyroTransport(running.uri)
    cursor = transport.call("events").result["cursor"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(transport.call, "events", {"cursor": cursor, "timeout": 5.0})
        time.sleep(0.2)
        begin = time.monotonic()
        transport.close()
        with pytest.raises(RemoteError):
            waiting.result(5)
    assert time.monotonic() - begin < 2


# ---------------------------------------------------------------------- addresses and sockets


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("localhost", "PYRO:twinscope@localhost:9753"),
        (" lab-pc:99 ", "PYRO:twinscope@lab-pc:99"),
        ("::1", "PYRO:twinscope@[::1]:9753"),
        ("[::1]", "PYRO:twinscope@[::1]:9753"),
        ("[fe80::2]:7", "PYRO:twinscope@[fe80::2]:7"),
        ("unix:/run/afm.sock", "PYRO:twinscope@./u:/run/afm.sock"),
        ("PYRO:twinscope@./u:/run/afm.sock", "PYRO:twinscope@./u:/run/afm.sock"),
        ("pyro:other@10.0.0.1:5", "PYRO:other@10.0.0.1:5"),
    ],
)
def test_an_address_is_completed(text: str, uri: str) -> None:
    assert str(Address.parse(text)) == uri
    assert str(Address.parse(uri)) == uri


@pytest.mark.parametrize(
    "text", ["", "unix:", ":", "host:", "host:0", "host:70000", "host:http", "PYRONAME:x", "a:b:c"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="unix:/path"):
        Address.parse(text)


@needs_unix_sockets
def test_a_unix_socket_is_for_its_owner_and_goes_with_the_server(instrument, tmp_path: Path) -> None:
    path = tmp_path / "afm.sock"
    server = Running(instrument(), f"unix:{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    transport = PyroTransport(f"unix:{path}")
    hello = transport.call("hello").result
    assert hello["identity"].startswith("local")
    assert hello["role"] == "admin"
    transport.close()
    with pytest.raises(ConfigurationError, match="already: stop it"):
        listen(f"unix:{path}", 0)
    server.stop()
    assert not path.exists()
    with pytest.raises(ServerUnreachableError):
        PyroTransport(f"unix:{path}")


@needs_unix_sockets
def test_the_socket_of_a_dead_server_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "afm.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listening, address = listen(f"unix:{path}", 0)
    remove(listening, address)
    assert not path.exists()
    path.write_text("my data")
    with pytest.raises(ConfigurationError, match="nothing was removed"):
        listen(f"unix:{path}", 0)
    assert path.read_text() == "my data"


@needs_unix_sockets
def test_a_socket_in_a_folder_of_everybody_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ConfigurationError, match="others may replace files"):
        listen(f"unix:{folder}/afm.sock", 0)
    assert not list(folder.iterdir())


def test_a_port_that_is_taken_is_named(running: Running) -> None:
    port = Address.parse(running.uri).port
    with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}.*in use"):
        listen("127.0.0.1", port)
