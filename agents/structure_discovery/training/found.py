"""Examples for the graph network: what the trained network finds of molecules that are known."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import jax
import numpy as np
from flax import nnx

from twinscope.agents.structure_discovery.finding import find_peaks, observe
from twinscope.agents.structure_discovery.graph.examples import Examples, examples_of
from twinscope.agents.structure_discovery.graph.graph_refiner import GraphRefiner
from twinscope.agents.structure_discovery.graph.matching import compare
from twinscope.agents.structure_discovery.graph.peaks import Peaks
from twinscope.agents.structure_discovery.graph.summary import Summary, summarise
from twinscope.agents.structure_discovery.molecules import Molecule
from twinscope.agents.structure_discovery.networks.discovery import DiscoveryNetwork, Output
from twinscope.agents.structure_discovery.structure import Structure
from twinscope.agents.structure_discovery.training.augmenting import Example, Seen, as_measured, as_trained
from twinscope.agents.structure_discovery.training.options import TrainingOptions
from twinscope.agents.structure_discovery.training.trainer import Source
from twinscope.agents.structure_discovery.training.validation import NOISE


class KnownSource(Source, Protocol):
    """A source that tells which molecules its samples show: with their bonds."""

    def shown(self, number: int, size: int) -> Sequence[Molecule]:
        """Return the molecules of a batch."""
        ...


KnownExample = tuple[Example, Sequence[Molecule]]


def known_examples(source: KnownSource, numbers: Iterable[int], size: int) -> Iterator[KnownExample]:
    """Yield batches of a size, each with its molecules."""
    for number in numbers:
        yield Example.of(source.batch(number, size)), source.shown(number, size)


def found_examples(
    network: DiscoveryNetwork,
    source: KnownSource,
    axis: np.ndarray,
    options: TrainingOptions,
    samples: int,
    report: Callable[[int], None],
) -> Examples:
    """Look for atoms in samples that are spoiled as those of the training.

    Parameters
    ----------
    network
        Trained.
    source
        Of the samples.
    axis
        Coordinates of the pixels of the images along x and along y, in Å.
    options
        Of the training.
    samples
        How many, to the next whole batch.
    report
        Called now and then with how many there are.
    """
    key, size = jax.random.key(options.seed), options.batch
    seen = (
        (_spoiled(jax.random.fold_in(key, number), example, options), molecules)
        for number, (example, molecules) in enumerate(known_examples(source, range(-(-samples // size)), size))
    )
    found: list[Peaks] = []
    true: list[Structure] = []
    for peaks, structure in _found(network, axis, seen):
        found.append(peaks)
        true.append(structure)
        report(len(found))
    return examples_of(found, true)


def atoms_score(
    network: DiscoveryNetwork, refiner: GraphRefiner, axis: np.ndarray, examples: Iterable[KnownExample]
) -> Summary:
    """Score the atoms of both networks together, with the published noise, from whole stacks of the first tip.

    Parameters
    ----------
    network, refiner
        Trained.
    axis
        Coordinates of the pixels of the images along x and along y, in Å.
    examples
        Of other molecules.
    """
    seen = (
        (as_measured(jax.random.key(number), example, NOISE), molecules)
        for number, (example, molecules) in enumerate(examples)
    )
    return summarise([compare(refiner.refine(peaks), structure) for peaks, structure in _found(network, axis, seen)])


_spoiled = jax.jit(as_trained, static_argnums=2)


def _found(
    network: DiscoveryNetwork, axis: np.ndarray, every: Iterable[tuple[Seen, Sequence[Molecule]]]
) -> Iterator[tuple[Peaks, Structure]]:
    graph, weights = nnx.split(network, nnx.Param)
    for seen, molecules in every:
        output = jax.device_get(observe(graph, weights, seen.force_gradient, seen.measured))
        samples = zip(molecules, seen.example.numbers, np.asarray(seen.example.positions), *output, strict=True)
        for molecule, atoms, positions, *parts in samples:
            there = np.asarray(atoms) > 0
            yield (
                find_peaks(Output(*parts), axis, axis),
                Structure.known(molecule.numbers, positions[there], None, molecule.bonds, molecule.bond_orders),
            )
