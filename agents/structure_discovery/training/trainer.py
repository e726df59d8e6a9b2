"""The loop: batches in, weights out, with checkpoints from which it goes on."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from twinscope.agents.structure_discovery.networks.discovery import DiscoveryNetwork
from twinscope.agents.structure_discovery.training.augmenting import Example, as_trained
from twinscope.agents.structure_discovery.training.checkpoints import Checkpoints
from twinscope.agents.structure_discovery.training.losses import losses, scaled_conditions, scaled_maps, total
from twinscope.agents.structure_discovery.training.optimiser import optimiser
from twinscope.agents.structure_discovery.training.options import TrainingOptions
from twinscope.agents.structure_discovery.training.prefetch import prefetched
from twinscope.agents.structure_discovery.training.targets import atom_targets
from twinscope.agents.structure_discovery.training.validation import Score, score_of
from twinscope.agents.structure_discovery.training_data.batch import Batch
from twinscope.errors import ConfigurationError

_REPORT_EVERY = 20  # Steps.
METRICS = "metrics.jsonl"
"""Name of the file in the folder of a training that holds its curves, one line of JSON for each validation."""


class Source(Protocol):
    """Where samples come from: the same batch for the same number, whatever was asked for before."""

    def batch(self, number: int, size: int) -> Batch:
        """Return a batch of `size` samples; of several processes that train together, the part of this one."""
        ...


class State(NamedTuple):
    """All that a training remembers."""

    step: jax.Array
    weights: Any
    average: Any
    optimiser: Any


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes
    ----------
    step, steps
        Done, and in all.
    parts
        Parts of the loss, averaged since the last report.
    rate
        Samples per second since the last report.
    score
        Of the validation, when one was made at this step.
    """

    step: int
    steps: int
    parts: dict[str, float]
    rate: float
    score: Score | None


class Trainer:
    """Trains a :class:`~..networks.discovery.DiscoveryNetwork`, on all local devices.

    Parameters
    ----------
    options
        How.
    axis
        Coordinates of the pixels of the images along x and along y, in Å.
    folder
        For checkpoints and curves; one that holds a checkpoint is gone on with.
    start
        The network to begin with; None for random weights.

    Raises
    ------
    ConfigurationError
        When the network to begin with is of another size, or the folder belongs to another training.
    """

    def __init__(
        self, options: TrainingOptions, axis: np.ndarray, folder: Path, start: DiscoveryNetwork | None = None
    ) -> None:
        self.options = options
        network = start or DiscoveryNetwork(options.network, rngs=nnx.Rngs(options.seed))
        if network.config != options.network:
            raise ConfigurationError(f"the network to begin with is {network.config}: expected {options.network}")
        self.graph, weights = nnx.split(network, nnx.Param)
        self._axis = jnp.asarray(axis.reshape(-1, 2).mean(1), jnp.float32)
        self._optimiser = optimiser(options)
        self._folder = folder
        devices = Mesh(np.array(jax.devices()), ("sample",))
        self._everywhere = NamedSharding(devices, PartitionSpec())
        self._split = NamedSharding(devices, PartitionSpec("sample"))
        # Two trees of weights must not share memory: both are given away at every step.
        first = State(jnp.zeros((), jnp.int32), weights, jax.tree.map(jnp.copy, weights), self._optimiser.init(weights))
        self._checkpoints = Checkpoints(folder / "checkpoints", asdict(options))
        self.state: State = jax.device_put(self._checkpoints.latest(first), self._everywhere)
        self._unseen: list[Example] = []
        self._step = jax.jit(self._advance, donate_argnums=0)

    def train(self, source: Source, validation: Source | None, report: Callable[[Progress], None]) -> None:
        """Go on until all steps are done.

        Parameters
        ----------
        source
            Of the training samples.
        validation
            Of samples of other molecules.
        report
            Called now and then with the progress.
        """
        options = self.options
        begin = int(self.state.step)
        meter = _Meter(options)
        key = jax.random.key(options.seed)
        examples = prefetched(lambda number: self._example(source, number), range(begin, options.steps))
        try:
            for step, example in enumerate(examples, start=begin):
                self.state, parts = self._step(self.state, example, jax.random.fold_in(key, step))
                meter.add(step + 1, parts)
                if meter.due:
                    report(meter.progress(self._kept_and_scored(validation, meter)))
        finally:
            self._checkpoints.wait()

    def network(self) -> DiscoveryNetwork:
        """Return the network with the averaged weights."""
        return nnx.merge(self.graph, self.state.average)

    def _advance(self, state: State, example: Example, key: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        seen = as_trained(key, example, self.options)

        def objective(weights: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            output = nnx.merge(self.graph, weights)(seen.force_gradient, seen.measured)
            parts = losses(
                output,
                scaled_maps(seen.example.maps),
                scaled_conditions(seen.example.conditions),
                atom_targets(seen.example.numbers, seen.example.positions, self._axis),
            )
            return total(parts), parts

        gradient, parts = jax.grad(objective, has_aux=True)(state.weights)
        updates, remembered = self._optimiser.update(gradient, state.optimiser, state.weights)
        weights = optax.apply_updates(state.weights, updates)
        # At first the average would remember little but the random start.
        keep = jnp.minimum(self.options.averaging, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, state.average, weights)
        return State(state.step + 1, weights, average, remembered), parts

    def _kept_and_scored(self, validation: Source | None, meter: "_Meter") -> Score | None:
        if not meter.validates:
            return None
        self._checkpoints.save(meter.done, self.state)
        return None if validation is None else self._validate(validation, meter)

    def _example(self, source: Source, number: int) -> Example:
        batch = source.batch(number, self.options.batch)
        return jax.tree.map(lambda a: jax.make_array_from_process_local_data(self._split, a), Example.of(batch))

    def _validate(self, source: Source, meter: "_Meter") -> Score:
        size = self.options.batch
        if not self._unseen:
            count = max(1, self.options.validation_samples // size)
            self._unseen = [Example.of(source.batch(number, size)) for number in range(count)]
        score = score_of(self.network(), self._unseen)
        line = {"step": meter.done, "loss": meter.means(), "validation": asdict(score)}
        with (self._folder / METRICS).open("a") as file:
            file.write(json.dumps(line) + "\n")
        return score


class _Meter:
    """Means of the loss and the speed, since the last report."""

    def __init__(self, options: TrainingOptions) -> None:
        self.done = 0
        self._options = options
        self._parts: list[dict[str, jax.Array]] = []
        self._begin = time.perf_counter()

    def add(self, done: int, parts: dict[str, jax.Array]) -> None:
        """Take the loss of a step, with how many are done."""
        self.done = done
        self._parts.append(parts)

    @property
    def due(self) -> bool:
        """Whether to report after this step."""
        return self.done % _REPORT_EVERY == 0 or self.validates

    @property
    def validates(self) -> bool:
        """Whether to validate after this step."""
        return self.done % self._options.validate_every == 0 or self.done == self._options.steps

    def means(self) -> dict[str, float]:
        return {name: float(np.mean([float(parts[name]) for parts in self._parts])) for name in self._parts[0]}

    def progress(self, score: Score | None) -> Progress:
        """Tell how far it is, and begin again."""
        means = self.means()
        seconds = time.perf_counter() - self._begin
        rate = len(self._parts) * self._options.batch / seconds
        self._parts, self._begin = [], time.perf_counter()
        return Progress(self.done, self._options.steps, means, rate, score)
