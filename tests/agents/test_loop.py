"""The loop: what an agent can do, what it costs, what is on disk, and what happens when something goes wrong."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import twinscope
from twinscope import ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.agents.loop import Agent, Budget, Command, Cost, Observation, RunFile, Task, replay, run
from twinscope.agents.loop.cost import cost_of, least_time
from twinscope.errors import InvalidRequestError, LeaseError, StoreError
from twinscope.local import LocalTransport
from twinscope.state import TipState

NM = 1e-9
TASK = Task(name="wander", details={"area": [0.0, 0.0, 1e-7, 1e-7]})
PLENTY = Budget(time=1e4)
SCAN = ScanRequest(
    frame=ScanFrame(size=(4 * NM, 2 * NM)), pixels=(4, 2), channels=("at_x", "at_z"), heights=(2 * NM,), line_time=0.5
)


class Wanderer:
    """Does what it was told, and then a scan at a random place until something stops it."""

    name = "wanderer"
    needs = frozenset({"scan"})

    def __init__(self, *plan: Command, scans: int = 2, fails_in: str = "", answer: Any = None) -> None:
        self.plan, self.scans, self.fails_in, self.given = plan, scans, fails_in, answer
        self.seen: list[Observation] = []

    def reset(self, task: Task, capabilities: Any, budget: Budget, seed: int) -> None:
        self._fail("reset")
        self.random = np.random.default_rng(seed)
        self.left = list(self.plan) + [None] * self.scans
        self.seen = []

    def observe(self, observation: Observation) -> None:
        self._fail("observe")
        self.seen.append(observation)

    def decide(self) -> Command | None:
        self._fail("decide")
        if not self.left:
            return None
        command = self.left.pop(0)
        x, y = self.random.uniform(0, 1e-7, 2).tolist()
        frame = ScanFrame(size=(4 * NM, 2 * NM), center=(x, y))
        return command or Command.acquire(ScanRequest.from_dict(SCAN.to_dict() | {"frame": frame.to_dict()}))

    def belief(self) -> Mapping[str, Any]:
        return {"seen": len(self.seen), "map": np.full((2, 3), len(self.seen), np.float32)}

    def answer(self) -> Mapping[str, Any]:
        self._fail("answer")
        return {"scans": len(self.seen) - 1} if self.given is None else self.given

    def _fail(self, where: str) -> None:
        if where == self.fails_in:
            raise ValueError(f"no idea how to {where}")


class Looker(Wanderer):
    """Looks at the same place again and again."""

    def decide(self) -> Command | None:
        command = super().decide()
        if command is None or command.request is None:
            return command
        request = ScanRequest(frame=ScanFrame(size=(NM, NM)), pixels=(8, 4), channels=("frequency_shift",))
        return Command.acquire(request)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.h5"


def test_a_run_is_on_disk_with_everything(ramp: twinscope.Microscope, path: Path) -> None:
    agent = Wanderer(Command("move_to", {"x": 5 * NM}), Command("set_signal", {"name": "bias", "value": 1.0}))
    assert isinstance(agent, Agent)
    outcome = run(agent, ramp, TASK, PLENTY, path, seed=3, beliefs=2)
    assert (outcome.ended, outcome.note, outcome.answer) == ("answered", "", {"scans": 4})
    assert ramp.state().tip is TipState.WITHDRAWN
    assert ramp.state().lease is None
    assert outcome.thinking > 0

    with RunFile(path) as file:
        assert (file.agent["name"], file.task, file.budget, file.seed) == ("wanderer", TASK, PLENTY, 3)
        assert (file.ended, file.answer) == ("answered", {"scans": 4})
        assert file.capabilities == ramp.capabilities()
        assert file.versions["twinscope"] == twinscope.__version__
        stored = list(file.observations())
        assert len(stored) == len(file) == len(agent.seen) == 5
        assert [file.belief(number) for number in (1, 3)] == [{}, {}]
        assert file.belief(4)["seen"] == 5
        np.testing.assert_array_equal(file.belief(4)["map"], 5)
    for one, other in zip(stored, agent.seen, strict=True):
        assert (one.number, one.command, one.state, one.cost) == (other.number, other.command, other.state, other.cost)
    measured = stored[-1].measurement
    assert measured is not None
    assert measured.request == agent.seen[-1].measurement.request
    for name in ("at_x", "at_z"):
        np.testing.assert_array_equal(measured[name].values, agent.seen[-1].measurement[name].values)
    assert stored[-1].spent == outcome.spent
    with pytest.raises(StoreError, match=r"run\.h5 cannot be made"):
        run(agent, ramp, TASK, PLENTY, path)


def test_everything_costs(ramp: twinscope.Microscope, path: Path) -> None:
    far = Command("move_to", {"x": 30 * NM, "y": 40 * NM})
    agent = Wanderer(far, Command("set_feedback", {"mode": "off"}), Command("withdraw"), scans=1)
    outcome = run(agent, ramp, TASK, Budget(time=1e4, overhead=0.25), path)
    _, moved, switched, withdrawn, scanned = [each.cost for each in agent.seen]
    # Moves take 0.1 s there; the bias is 0.1 V.
    assert moved.time == pytest.approx(0.35)
    assert moved.travel == pytest.approx(50 * NM)
    assert moved.bias_exposure == pytest.approx(0.01)
    assert switched == Cost(0.25, commands=1)
    assert (withdrawn.travel, withdrawn.bias_exposure) == (0, 0)
    assert withdrawn.time == pytest.approx(0.35)
    assert scanned.time >= 0.25 + 2 * 0.5
    assert scanned.travel == pytest.approx((2 * 4 * 2 + 2) * NM)
    assert outcome.spent.commands == 4
    assert outcome.spent.time == pytest.approx(sum(each.cost.time for each in agent.seen))


def test_sweeps_and_pulses_are_not_free(instrument: Callable[..., Any], path: Path) -> None:
    def spectra(swept: str, stop: float) -> Command:
        sweep = Sweep(start=1 * NM if swept == "z" else -0.5, stop=stop, points=5)
        return Command.acquire(SpectroscopyRequest(swept=swept, positions=((0, 0),), sweep=sweep, channels=("at_z",)))

    plan = spectra("z", 3 * NM), spectra("bias", -4.0), Command("pulse", {"voltage": -3.0, "duration": 0.5})
    with twinscope.Microscope(transport=LocalTransport(instrument(allow=["pulse"]))) as scope:
        agent = Wanderer(*plan, scans=0)
        run(agent, scope, TASK, PLENTY, path)
    _, z, bias, pulse = agent.seen
    assert z.cost.travel == pytest.approx(4 * NM)
    # The bias is 0.1 V otherwise.
    assert z.cost.bias_exposure == pytest.approx(0.1 * (z.cost.time - PLENTY.overhead))
    assert bias.cost.bias_exposure == pytest.approx(4.0 * (bias.cost.time - PLENTY.overhead))
    # This instrument pulses at once; others take their time.
    assert pulse.cost == Cost(PLENTY.overhead, commands=1)
    later = replace(pulse.state, time=pulse.state.time + 0.5)
    assert cost_of(plan[2], pulse.state, later, 0.1).bias_exposure == pytest.approx(3.0 * 0.5)
    dip = Command("shape_tip", {"depth": 2 * NM, "voltage": 0.0})
    assert cost_of(dip, pulse.state, later, 0.1).travel == pytest.approx(4 * NM)


@pytest.mark.parametrize(
    ("budget", "commands"),
    [
        (Budget(time=1e4, commands=3), 3),
        (Budget(time=1e4, travel=20 * NM), 2),
        (Budget(time=1e4, bias_exposure=0.15), 2),
        # There is time for two scans; the third does not fit, and is refused until the refusals have used it up.
        (Budget(time=4.0, overhead=0.5), 4),
    ],
)
def test_a_budget_ends_a_run(ramp: twinscope.Microscope, path: Path, budget: Budget, commands: int) -> None:
    agent = Wanderer(scans=100)
    outcome = run(agent, ramp, TASK, budget, path)
    assert outcome.ended == "out_of_budget"
    assert outcome.answer == {"scans": commands}
    assert outcome.spent.commands == commands
    refused = [each.error for each in agent.seen if each.error is not None]
    assert {error.details["name"] for error in refused} <= {"budget"}
    assert bool(refused) == (budget.time < 100)


def test_what_the_instrument_refuses_is_observed(ramp: twinscope.Microscope, path: Path) -> None:
    bad = Command("scan", {"frame": "everything"})
    agent = Wanderer(
        Command("move_to", {"x": 1.0}),
        Command("pulse", {"voltage": 1.0, "duration": 0.1}),
        bad,
        Command("move_to", {"w": 1}),
    )
    outcome = run(agent, ramp, TASK, PLENTY, path)
    codes = [None if each.error is None else each.error.code for each in agent.seen]
    assert codes == [None, "out_of_range", "interlock", "invalid_request", "invalid_request", None, None]
    assert outcome.ended == "answered"
    with RunFile(path) as file:
        stored = [None if each.error is None else each.error.code for each in file.observations()]
    assert stored == codes


@pytest.mark.parametrize("where", ["reset", "observe", "decide", "answer"])
def test_an_agent_that_fails_leaves_the_tip_safe(ramp: twinscope.Microscope, path: Path, where: str) -> None:
    outcome = run(Wanderer(fails_in=where), ramp, TASK, PLENTY, path)
    assert (outcome.ended, outcome.answer) == ("agent_failed", None)
    assert outcome.note == f"ValueError: no idea how to {where}"
    assert ramp.state().tip is TipState.WITHDRAWN
    with RunFile(path) as file:
        assert (file.ended, file.note) == (outcome.ended, outcome.note)


@pytest.mark.parametrize(
    "agent",
    [Wanderer(answer={"x": np.zeros(2)}), Wanderer(answer=[1]), Wanderer("move_to")],  # type: ignore[arg-type]
)
def test_what_is_no_answer_and_no_command_is_the_fault_of_the_agent(
    ramp: twinscope.Microscope, path: Path, agent: Wanderer
) -> None:
    assert run(agent, ramp, TASK, PLENTY, path).ended == "agent_failed"


@pytest.mark.parametrize("verb", ["oracle", "close", "control", "acquire_lease", "emergency_stop", "__init__"])
def test_an_agent_cannot_ask_for_everything(verb: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"an agent asks for '{verb}': expected one of move_to"):
        Command(verb)


def test_a_command_is_plain_data() -> None:
    command = Command.acquire(SCAN)
    assert command.request == SCAN
    assert Command.from_dict(json.loads(json.dumps(command.to_dict()))) == command
    assert Command("withdraw").request is None
    with pytest.raises(InvalidRequestError, match="is no plain data"):
        Command("move_to", {"x": np.zeros(1)})


def test_an_instrument_that_lacks_something_is_refused_at_once(ramp: twinscope.Microscope, path: Path) -> None:
    agent = Wanderer()
    agent.needs = frozenset({"scan", "sweep_z", "oracle"})
    with pytest.raises(InvalidRequestError, match="the agent 'wanderer' needs oracle: this instrument has scan"):
        run(agent, ramp, TASK, PLENTY, path)
    assert not path.exists()


def test_someone_else_may_hold_the_instrument(ramp: twinscope.Microscope, path: Path) -> None:
    with ramp.control(), pytest.raises(LeaseError):
        run(Wanderer(), ramp, TASK, PLENTY, path)
    assert not path.exists()


def test_a_run_that_is_stopped_by_someone_ends(
    instrument: Callable[..., Any], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with twinscope.Microscope(transport=LocalTransport(instrument())) as scope:
        agent = Wanderer(scans=100)
        observe = agent.observe

        def stop_at_the_third(observation: Observation) -> None:
            observe(observation)
            if observation.number == 2:
                scope.emergency_stop()

        monkeypatch.setattr(agent, "observe", stop_at_the_third)
        outcome = run(agent, scope, TASK, PLENTY, path)
        assert outcome.ended not in {"answered", "out_of_budget", "agent_failed"}
        assert outcome.spent.commands == 3
        assert outcome.answer == {"scans": 3}


def test_a_budget_is_positive() -> None:
    with pytest.raises(InvalidRequestError, match="travel of the budget is 0"):
        Budget(time=1.0, travel=0)
    assert math.isinf(Budget(time=1.0).commands)
    assert least_time(SCAN) == 1.0


def test_a_file_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("run")
    with pytest.raises(StoreError, match="cannot be read"):
        RunFile(tmp_path / "text")


def test_the_same_agent_runs_over_a_network(scope: twinscope.Microscope, path: Path) -> None:
    outcome = run(Looker(Command("approach"), scans=1), scope, TASK, PLENTY, path)
    assert (outcome.ended, outcome.answer) == ("answered", {"scans": 2})
    assert scope.state().tip is TipState.WITHDRAWN
    with RunFile(path) as file:
        *_, last = file.observations()
    assert np.ptp(last.measurement["frequency_shift"].values) > 0.1


def test_a_run_comes_out_the_same_again(tmp_path: Path) -> None:
    def scope() -> twinscope.Microscope:
        return twinscope.Microscope(sample="benzene", noise=0.1, directory=tmp_path / "data")

    path = tmp_path / "run.h5"
    with scope() as first:
        agent = Looker(Command("approach"), Command("move_to", {"x": 1.0}), scans=2)
        outcome = run(agent, first, TASK, Budget(time=7.0), path)
    # The second scan did not fit any more.
    assert [each.error and each.error.code for each in agent.seen] == [None, None, "out_of_range", None, "out_of_range"]
    assert outcome.ended == "answered"
    with scope() as second:
        assert replay(path, second) == []
    with twinscope.Microscope(sample="benzene", noise=0.1, seed=1, directory=tmp_path / "data") as third:
        differences = replay(path, third)
    assert {(each.number, each.what) for each in differences} == {(3, "frequency_shift")}
    assert differences[0].now == "32 others"
