"""A whole training, from nothing to weights with a model card; stopped at any moment, it goes on where it was."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import jax

from twinscope._version import __version__
from twinscope.agents.structure_discovery.graph import Summary
from twinscope.agents.structure_discovery.graph.graph_refiner import GRAPH_WEIGHTS, GraphRefiner
from twinscope.agents.structure_discovery.graph.graph_training import train_graph_network
from twinscope.agents.structure_discovery.molecules import Molecule, from_folder, library, split_of
from twinscope.agents.structure_discovery.networks.saved import Card, load_network, save_network
from twinscope.agents.structure_discovery.training.calibration import sigma_factors
from twinscope.agents.structure_discovery.training.found import KnownSource, atoms_score, found_examples, known_examples
from twinscope.agents.structure_discovery.training.model_card import write_model_card
from twinscope.agents.structure_discovery.training.options import TrainingOptions
from twinscope.agents.structure_discovery.training.sources import PoolSource
from twinscope.agents.structure_discovery.training.trainer import Progress, Trainer
from twinscope.agents.structure_discovery.training_data.pool import fill
from twinscope.agents.structure_discovery.training_data.recipe import TWINSCOPE, Recipe
from twinscope.agents.structure_discovery.training_data.stream import Stream
from twinscope.errors import ConfigurationError

WEIGHTS = "discovery.npz"
"""Name of the file of the weights in the folder of a training; those of the graph network are beside it."""

_PATHS = ("own_molecules", "start")
_FIRST_CALIBRATION_BATCH = 1000  # Far behind the batches of the validation.


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that decides the weights.

    Attributes
    ----------
    molecules
        Of the library, which the seed does not change: those of the part "train" are trained with.
    elements
        Of the library: "light" or "heavy".
    own_molecules
        A folder to be used in the place of the library.
    pool
        Samples of each molecule that are made before the training and kept on disk; 0 makes every sample anew while the
        training runs, which is better where the device is fast.
    recipe
        Of the samples.
    start
        Weights to begin with; None for random ones.
    training
        How; the tips of its network are those of the recipe.
    graph_samples, graph_steps
        In how many samples the network looks for atoms when it is trained, and for how many steps the graph network
        learns what they are.
    calibration_samples
        Of other molecules, on which standard deviations are corrected and atoms are scored.
    """

    molecules: int = 10000
    elements: str = "light"
    own_molecules: Path | None = None
    pool: int = 0
    recipe: Recipe = TWINSCOPE
    start: Path | None = None
    training: TrainingOptions = field(default_factory=TrainingOptions)
    graph_samples: int = 8000
    graph_steps: int = 4000
    calibration_samples: int = 192


@dataclass(frozen=True, slots=True)
class Reports:
    """Who is told about the progress.

    Attributes
    ----------
    molecules
        With how many there are, and that there shall be.
    samples
        With how many of the pool there are, and that there shall be.
    steps
        With the progress of the training.
    found
        With in how many samples atoms were looked for, and that there shall be.
    """

    molecules: Callable[[int, int], None] = lambda _, __: None
    samples: Callable[[int, int], None] = lambda _, __: None
    steps: Callable[[Progress], None] = lambda _: None
    found: Callable[[int, int], None] = lambda _, __: None


def train(folder: Path, run: Run, reports: Reports | None = None, *, processes: int = 1) -> Path:
    """Train a network and the graph network after it, and write their weights and a model card into a folder.

    Parameters
    ----------
    folder
        For everything that is made; one in which a training was stopped is gone on with.
    run
        What is trained.
    reports
        Who is told about the progress.
    processes
        That make molecules, and samples of a pool, at the same time.

    Returns
    -------
    Path
        Of the weights of the network; those of the graph network are beside it.

    Raises
    ------
    ConfigurationError
        When the folder belongs to another training, or there are too few molecules.
    """
    reports = reports or Reports()
    folder.mkdir(parents=True, exist_ok=True)
    tips = run.recipe.tips
    training = replace(run.training, network=replace(run.training.network, tips=tips))
    start = None if run.start is None else load_network(run.start)[0].with_tips(tips)
    trainer = Trainer(training, run.recipe.grid.axis(), folder, start)
    molecules = _molecules(run, reports, processes)
    validation = Stream(molecules["validation"], run.recipe, run.training.seed)
    begin, done = time.monotonic(), int(trainer.state.step)
    source = _source(folder, run, molecules["train"], reports, processes)
    trainer.train(source, validation, reports.steps)
    hours = (time.monotonic() - begin) / 3600
    size = training.batch
    batches = range(_FIRST_CALIBRATION_BATCH, _FIRST_CALIBRATION_BATCH + max(run.calibration_samples // size, 1))
    network = trainer.network()
    axis = run.recipe.grid.axis()
    found = found_examples(
        network, source, axis, training, run.graph_samples, lambda done: reports.found(done, run.graph_samples)
    )
    refiner = GraphRefiner(train_graph_network(found, steps=run.graph_steps, seed=training.seed))
    refiner.save(folder / GRAPH_WEIGHTS)
    known = list(known_examples(validation, batches, size))
    told = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "twinscope": __version__,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "molecules": {part: len(some) for part, some in molecules.items()},
        "run": _plain(run),
        "hours_of_the_last_session": round(hours, 2),
        "steps_of_the_last_session": run.training.steps - done,
        "molecules_scored": len(batches) * size,
        "atoms": _told(atoms_score(network, refiner, axis, known)),
    }
    factors = sigma_factors(network, [example for example, _ in known])
    card = Card("discovery", training.network, factors, told)
    write_model_card(folder, card)
    return save_network(folder / WEIGHTS, network, card)


def _molecules(run: Run, reports: Reports, processes: int) -> dict[str, list[Molecule]]:
    if run.own_molecules is not None:
        every = from_folder(run.own_molecules)
    else:
        every = library(
            run.molecules,
            elements=run.elements,  # type: ignore[arg-type]
            processes=processes,
            progress=reports.molecules,
        )
    fitting = [molecule for molecule in every if len(molecule.numbers) <= run.recipe.atoms]
    parts = {part: [one for one in fitting if split_of(one) == part] for part in ("train", "validation")}
    for part, some in parts.items():
        if not some:
            raise ConfigurationError(
                f"none of the {len(every)} molecules is of the part {part!r}: the parts are made by scaffold; use more"
                " molecules"
            )
    return parts


def _source(folder: Path, run: Run, molecules: Sequence[Molecule], reports: Reports, processes: int) -> KnownSource:
    if not run.pool:
        return Stream(molecules, run.recipe, run.training.seed)
    samples = folder / "samples"
    fill(
        samples,
        molecules,
        run.recipe,
        repeats=run.pool,
        seed=run.training.seed,
        processes=processes,
        report=lambda made: reports.samples(made, run.pool * len(molecules)),
    )
    return PoolSource(samples, molecules, run.pool, run.training.seed)


def _told(score: Summary) -> dict[str, float]:
    return {name: round(value, 4) for name, value in vars(score).items() if isinstance(value, float)}


def _plain(run: Run) -> dict[str, object]:
    paths = {name: None if path is None else path.name for name, path in vars(run).items() if name in _PATHS}
    return asdict(run) | paths
