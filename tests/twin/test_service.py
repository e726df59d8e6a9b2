"""The verbs: who may call them, what they refuse, what a dry run promises, and that nothing is done twice."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import twinscope
from tests.conftest import until
from twinscope.capabilities import Capabilities
from twinscope.errors import (
    BusyError,
    ForbiddenError,
    InterlockError,
    InvalidRequestError,
    LeaseError,
    OutOfRangeError,
    TwinscopeError,
)
from twinscope.ledger import Ledger
from twinscope.requests import PathRequest, ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.service import Service
from twinscope.state import Position, Reading, TipState

NM = 1e-9
SCAN = {"frame": {"size": [2 * NM, 2 * NM]}, "pixels": [2, 3], "channels": ["at_x"], "line_time": 0.01}
ACQUIRE = {"kind": "scan", "request": SCAN}
LOOKING = {
    "acquisition",
    "capabilities",
    "events",
    "find",
    "hello",
    "jobs",
    "pull",
    "state",
    "wait_job",
    "wait_ready",
}

FOR_ADMINS = {"break_lease", "oracle"}


def unchanged(client: Any) -> dict[str, Any]:
    """Return the state, without what changes by itself."""
    state = client("state")
    state["lease"] = state["lease"] and {k: v for k, v in state["lease"].items() if k != "expires_in"}
    return state


# ---------------------------------------------------------------------- roles


def marks(verb: str) -> tuple[Any, bool, bool]:
    return getattr(Service, verb).__verb__


def test_looking_and_the_emergency_stop_are_for_everyone() -> None:
    for_all = {verb for verb in Service.verbs() if marks(verb)[0] == 0}
    assert for_all == LOOKING | {"emergency_stop"}
    assert {verb for verb in Service.verbs() if marks(verb)[0] == 2} == FOR_ADMINS


def test_what_only_looks_writes_nothing_and_what_writes_is_marked() -> None:
    assert {verb for verb in Service.verbs() if not marks(verb)[1]} == LOOKING | {"renew_lease", "oracle"}
    brings_to_rest = {"abort", "break_lease", "emergency_stop", "release_lease", "withdraw"}
    assert {verb for verb in Service.verbs() if marks(verb)[2]} == brings_to_rest


@pytest.mark.parametrize("verb", sorted(set(Service.verbs()) - LOOKING - {"emergency_stop"}))
def test_an_observer_is_refused_by_name_and_role(service, enter, ramp_driver, verb: str) -> None:
    driver = ramp_driver()
    olga = enter(service(driver), "observer", name="olga")
    olga.lease = 1
    needed = "admin" if verb in FOR_ADMINS else "operator"
    with pytest.raises(ForbiddenError, match=f"{verb} needs the role {needed}: olga is observer") as caught:
        olga(verb)
    assert caught.value.details == {"role": needed}
    assert driver.calls == []


def test_an_observer_sees_everything_and_can_stop_everything(service, enter) -> None:
    ours = service()
    ann, olga = enter(ours), enter(ours, "observer", name="olga")
    ann.take()
    scan = ann("acquire", **ACQUIRE)["metadata"]["id"]
    assert olga.wait(scan)["state"] == "done"
    assert olga("hello") | {"twinscope": "", "protocol": 0} == {
        "twinscope": "",
        "protocol": 0,
        "instrument": "ramp",
        "identity": "olga",
        "role": "observer",
    }
    assert olga("state")["lease"]["identity"] == "ann"
    assert olga("acquisition", id=scan)["metadata"]["identity"] == "ann"
    assert len(olga.service.call(olga.session, "pull", {"id": scan, "offset": 0, "timeout": 0.0}).payload) == 24
    assert olga.wait(olga("emergency_stop", reason="smoke")["id"])["state"] == "done"
    assert olga("state")["tip"] == "withdrawn"
    with pytest.raises(InterlockError, match="acknowledges this: emergency stop by olga: smoke"):
        ann("approach")
    with pytest.raises(ForbiddenError):
        olga("acknowledge")
    ann("acknowledge")
    assert ann.do("approach")["state"] == "done"


def test_an_operator_cannot_break_a_lease_and_an_admin_can(service, enter) -> None:
    ours = service()
    ann, bob, root = enter(ours), enter(ours, name="bob"), enter(ours, "admin", name="root")
    ann.take()
    with pytest.raises(ForbiddenError, match="break_lease needs the role admin: bob is operator"):
        bob("break_lease")
    with pytest.raises(LeaseError, match="held by ann@here"):
        root.take()
    root("break_lease")
    assert root.take() == ann.lease + 1
    with pytest.raises(LeaseError, match="was broken"):
        ann("move_to", x=NM)


# ---------------------------------------------------------------------- what makes no sense


@pytest.mark.parametrize(
    ("name", "message"), [("explode", "no verb 'explode'"), ("call", "no verb"), ("_once", "no verb"), (7, "verb 7")]
)
def test_what_is_no_verb_is_refused(service, enter, name: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        enter(service())(name)


def test_parameters_that_do_not_fit_are_named(service, enter) -> None:
    client = enter(service())
    with pytest.raises(InvalidRequestError, match=r"parameters of move_to do not fit: .*'w'"):
        client("move_to", w=1.0)
    with pytest.raises(InvalidRequestError, match=r"parameters of wait_job do not fit: .*'timeout'"):
        client("wait_job", id="a")
    with pytest.raises(InvalidRequestError, match=r"parameters of state do not fit"):
        client.service.call(client.session, "state", {1: 2})
    with pytest.raises(InvalidRequestError, match="there is no dry run"):
        client("state", dry_run=True)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "1e-9", True, [1.0], b"1"])
@pytest.mark.parametrize(
    ("verb", "parameters"),
    [
        ("move_to", {"x": ...}),
        ("move_to", {"x": NM, "z": ...}),
        ("move_to", {"x": NM, "speed": ...}),
        ("set_signal", {"name": "bias", "value": ...}),
        ("set_signal", {"name": "bias", "value": 0.2, "rate": ...}),
        ("pulse", {"voltage": ..., "duration": 0.1}),
        ("pulse", {"voltage": 1.0, "duration": ...}),
        ("shape_tip", {"depth": ...}),
        ("shape_tip", {"depth": NM, "voltage": ...}),
        ("coarse_move", {"axis": "z", "steps": ...}),
        ("acquire", {"kind": "scan", "request": SCAN | {"line_time": ...}}),
        ("acquire", {"kind": "scan", "request": SCAN | {"heights": [...]}}),
        ("acquire", {"kind": "path", "request": {"positions": [[0, ...]], "channels": ["at_x"]}}),
        ("acquire_lease", {"purpose": "", "duration": ...}),
        ("wait_ready", {"timeout": ...}),
    ],
)
def test_what_is_no_number_is_refused_everywhere(service, enter, ramp_driver, verb: str, parameters: Any, bad) -> None:
    driver = ramp_driver()
    client = enter(service(driver, allow=["pulse", "tip_shaping"]))
    assert client("wait_ready", timeout=5.0)
    client.take()
    before = unchanged(client)
    with pytest.raises(InvalidRequestError, match="expected a"):
        client(verb, **_with(parameters, bad))
    assert unchanged(client) == before
    assert driver.calls == []


def _with(value: Any, bad: Any) -> Any:
    """Put something bad where the dots are."""
    if isinstance(value, dict):
        return {key: _with(element, bad) for key, element in value.items()}
    if isinstance(value, list):
        return [_with(element, bad) for element in value]
    return bad if value is ... else value


@pytest.mark.parametrize("criteria", [5, "scan", None, [1], {"colour": "red"}])
def test_the_catalogue_is_searched_for_what_it_knows(service, enter, tmp_path: Path, criteria: Any) -> None:
    client = enter(service(None, Ledger(tmp_path)))
    with pytest.raises(InvalidRequestError, match=r"criteria|searched|colour"):
        client("find", criteria=criteria)


# ---------------------------------------------------------------------- dry runs


REFUSED = [
    ({}, "move_to", {"x": 1.0}, OutOfRangeError),
    ({}, "move_to", {}, InvalidRequestError),
    ({"signals": {"x": {"high": NM}}}, "move_to", {"x": 2 * NM}, InterlockError),
    ({}, "set_signal", {"name": "current", "value": 1.0}, InvalidRequestError),
    ({"signals": {"bias": {"high": 1}}}, "set_signal", {"name": "bias", "value": 2.0}, InterlockError),
    ({}, "set_feedback", {"mode": "magic"}, InvalidRequestError),
    ({"forbidden": [{"name": "r", "low": [-1, -1], "high": [1, 1], "below": 1.0}]}, "approach", {}, InterlockError),
    ({}, "coarse_move", {"axis": "x", "steps": 1}, InterlockError),
    ({}, "coarse_move", {"axis": "w", "steps": 1}, InvalidRequestError),
    ({}, "pulse", {"voltage": 1.0, "duration": 0.1}, InterlockError),
    ({}, "shape_tip", {"depth": NM}, InterlockError),
    ({}, "exchange_tip", {"probe": "Xe"}, InterlockError),
    ({"allow": ["tip_exchange"]}, "exchange_tip", {"probe": "C60"}, InvalidRequestError),
    ({"least_scan_height": 1.0}, "acquire", ACQUIRE, InterlockError),
    ({}, "acquire", ACQUIRE | {"on_lease_loss": "explode"}, InvalidRequestError),
    ({}, "acquire", {"kind": "movie", "request": {}}, InvalidRequestError),
    ({}, "acknowledge", {}, InvalidRequestError),
    ({}, "restart", {}, InvalidRequestError),
    ({}, "acquire_lease", {"purpose": "", "duration": 5.0}, LeaseError),
    ({}, "pause", {"id": "nothing"}, LookupError),
    ({}, "resume", {"id": "nothing"}, LookupError),
    ({}, "abort", {"id": "nothing"}, LookupError),
]


@pytest.mark.parametrize(("rules", "verb", "parameters", "error"), REFUSED)
def test_a_dry_run_raises_what_the_real_one_would(
    service, enter, ramp_driver, rules: Any, verb: str, parameters: Any, error: type[Exception]
) -> None:
    driver = ramp_driver()
    client = enter(service(driver, **rules))
    assert client("wait_ready", timeout=5.0)
    client.take()
    before = unchanged(client)
    raised = []
    for dry_run in (True, False):
        with pytest.raises(error) as caught:
            client(verb, dry_run=dry_run, **parameters)
        raised.append(caught.value)
    dry, real = (one.to_dict() for one in raised)
    if verb == "acquire_lease":
        # It says for how long yet the instrument is held.
        dry, real = dry["details"], real["details"]
    assert dry == real
    assert type(raised[0]) is type(raised[1])
    assert unchanged(client) == before
    assert driver.calls == []


class _Trial:
    """Tries each verb before it calls it, and sees that the trial has left no trace."""

    def __init__(self, client: Any, driver: Any) -> None:
        self.client, self.driver = client, driver
        self.tried: set[str] = set()

    def check(self, verb: str, **parameters: Any) -> None:
        before, calls, jobs = unchanged(self.client), list(self.driver.calls), len(self.client("jobs"))
        self.client(verb, dry_run=True, **parameters)
        assert unchanged(self.client) == before
        assert (self.driver.calls, len(self.client("jobs"))) == (calls, jobs)
        self.tried.add(verb)

    def __call__(self, verb: str, **parameters: Any) -> Any:
        self.check(verb, **parameters)
        return self.client(verb, **parameters)

    def finish(self, verb: str, **parameters: Any) -> None:
        assert self.client.wait(self(verb, **parameters)["id"])["state"] == "done"


def test_every_verb_that_writes_can_be_tried_and_then_done(service, enter, ramp_driver) -> None:
    driver = ramp_driver(rate=10.0)
    client = enter(service(driver, allow=["pulse", "tip_shaping", "tip_exchange"]), "admin")
    assert client("wait_ready", timeout=5.0)
    attempt = _Trial(client, driver)
    client.lease = attempt("acquire_lease", purpose="", duration=30.0)["lease"]
    attempt.finish("move_to", x=NM)
    attempt.finish("set_signal", name="bias", value=0.2)
    attempt.finish("set_feedback", mode="off")
    attempt.finish("pulse", voltage=1.0, duration=0.01)
    attempt.finish("shape_tip", depth=NM)
    attempt.finish("exchange_tip", probe="Xe")
    attempt.finish("coarse_move", axis="z", steps=3)
    attempt.finish("withdraw")
    attempt.finish("approach")
    scan = attempt("acquire", kind="scan", request=SCAN | {"line_time": 1000.0})["metadata"]["id"]
    until(lambda: client("acquisition", id=scan)["progress"]["state"] == "running")
    with pytest.raises(BusyError, match=scan):
        client("acquire", dry_run=True, **ACQUIRE)
    # What brings the instrument to rest is no less possible while it is busy.
    for verb in ("withdraw", "emergency_stop"):
        attempt.check(verb)
    for verb in ("pause", "resume", "abort"):
        attempt.check(verb, id=scan)
    assert client("acquisition", id=scan)["progress"]["state"] == "running"
    client("abort", id=scan)
    attempt.finish("emergency_stop")
    attempt("acknowledge")
    attempt("break_lease")
    client.take()
    attempt("release_lease")
    assert client("state")["lease"] is None
    # A driver that has not failed cannot be restarted: see above.
    assert attempt.tried == {verb for verb in Service.verbs() if marks(verb)[1]} - {"restart"}


def test_a_script_checks_before_it_acts(ramp: twinscope.Microscope) -> None:
    frame = ScanFrame(size=(2 * NM, 2 * NM))
    with ramp.control():
        ramp.check("move_to", x=NM)
        ramp.check("acquire", request=ScanRequest(frame=frame, pixels=(2, 2), channels=("at_x",)))
        with pytest.raises(OutOfRangeError, match="x = 1 m"):
            ramp.check("move_to", x=1.0)
        with pytest.raises(TwinscopeError, match="'nothing'"):
            ramp.check("acquire", request=ScanRequest(frame=frame, pixels=(2, 2), channels=("nothing",)))
        assert ramp.jobs() == []
    with pytest.raises(LeaseError, match="control"):
        ramp.check("move_to", x=NM)


# ---------------------------------------------------------------------- plain data


def test_capabilities_survive_json(ramp_driver) -> None:
    capabilities = ramp_driver().capabilities()
    again = Capabilities.from_dict(json.loads(json.dumps(capabilities.to_dict())))
    assert again == capabilities
    assert again.signals[0].unit == "V"
    assert again.features == ("coarse_motion", "pulse", "tip_shaping", "tip_exchange")
    assert again.settable == ("bias", "setpoint_current")


numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.builds(
        Reading,
        numbers,
        st.builds(Position, numbers, numbers, numbers),
        st.sampled_from(TipState),
        st.dictionaries(st.sampled_from(["bias", "current"]), numbers),
        st.sampled_from(["off", "constant_current"]),
    )
)
def test_a_reading_survives_json(reading: Reading) -> None:
    assert Reading.from_dict(json.loads(json.dumps(reading.to_dict()))) == reading


def test_requests_arrive_as_they_were_sent(service, enter) -> None:
    client = enter(service())
    client.take()
    frame = ScanFrame(size=(2 * NM, 2 * NM), angle=10)
    for request in (
        ScanRequest(frame=frame, pixels=(2, 2), channels=("at_x",), z_mode="constant_current", setpoint=1e-11),
        PathRequest(positions=((0, 0), (NM, NM)), channels=("at_x",), separate=True, lift=NM, passes=2),
        SpectroscopyRequest(
            swept="bias",
            positions=frame.grid((2, 2)),
            sweep=Sweep(start=-1, stop=1, points=3),
            channels=("at_x",),
            height=NM,
        ),
    ):
        began = client("acquire", kind=request.kind, request=json.loads(json.dumps(request.to_dict())))
        assert client.wait(began["metadata"]["id"])["state"] == "done"
        assert type(request).from_dict(began["metadata"]["request"]) == request
