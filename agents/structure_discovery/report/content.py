"""What a report says: headings, tables and pictures, whatever it is written as."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from twinscope.agents.structure_discovery.agent.operator import ANGSTROM
from twinscope.agents.structure_discovery.agent.record import DiscoveryRecord, MoleculeRecord
from twinscope.agents.structure_discovery.prediction import CONDITIONS
from twinscope.agents.structure_discovery.report import figures
from twinscope.agents.structure_discovery.structure import ELEMENTS, Structure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of texts under headings."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Section:
    """A heading, what is said, and a table or a picture.

    Attributes
    ----------
    level
        1 for the title of the report, 2 for a molecule, 3 for a part of it.
    """

    level: int
    heading: str
    text: str = ""
    table: Table | None = None
    figure: "Figure | None" = None


def sections(record: DiscoveryRecord) -> Iterator[Section]:
    """Yield the whole report, in its order."""
    yield Section(1, "Structure discovery", _how_it_went(record), _summary(record))
    if record.overview is not None:
        text = f"Taken at {record.overview.z_mode.replace('_', ' ')}. Red: molecules; orange: molecules that touch."
        yield Section(2, "Overview", text, figure=figures.overview_figure(record, record.overview))
    for number, molecule in enumerate(record.molecules, start=1):
        yield from _of_molecule(number, molecule)


def _how_it_went(record: DiscoveryRecord) -> str:
    ended = f"{record.ended.replace('_', ' ')}{': ' + record.note if record.note else ''}"
    return f"{record.instrument}. The run ended: {ended}. The tip is {record.tip}."


def _summary(record: DiscoveryRecord) -> Table:
    found = 0 if record.overview is None else len(record.overview.molecules)
    rows = [
        ("molecules seen", str(found)),
        ("molecules tried", str(len(record.molecules))),
        ("instrument time of the overview", f"{record.surveyed - record.begin:.0f} s"),
        ("instrument time of everything", f"{record.instrument_time:.0f} s of {record.options.budget:.0f} s"),
        ("scanned area, every height counted", f"{record.scanned * 1e18:.0f} nm²"),
    ]
    return Table(("what", "how much"), tuple(rows))


def _of_molecule(number: int, molecule: MoleculeRecord) -> Iterator[Section]:
    x, y = (value * 1e9 for value in molecule.center)
    ended = f"{molecule.ended.replace('_', ' ')}{': ' + molecule.note if molecule.note else ''}"
    time = molecule.end - molecule.begin
    text = f"At ({x:.2f}, {y:.2f}) nm, {time:.0f} s of instrument time. It ended: {ended}."
    yield Section(2, f"Molecule {number}", text)
    if molecule.structure is not None and molecule.stack is not None and len(molecule.structure):
        yield Section(3, "Structure", figure=figures.structure_figure(molecule.structure, molecule.stack))
        yield Section(
            3, "Atoms", "Coordinates from the middle of the frame; z from the highest atom.", _atoms(molecule)
        )
    if molecule.prediction is not None:
        maps = figures.maps_figure(molecule.prediction)
        yield Section(3, "Predicted maps", f"Network: {molecule.prediction.network}.", figure=maps)
    if molecule.stack is not None:
        yield Section(
            3, "Measured slices", "; ".join(molecule.stack.notes), figure=figures.slices_figure(molecule.stack)
        )
    for other in molecule.others:
        heading = f"Slices measured with {other.tip} at the tip"
        yield Section(3, heading, "; ".join(other.notes), figure=figures.slices_figure(other))
    if molecule.actions:
        table, drawn = _measurements(molecule), figures.history_figure(molecule)
        yield Section(3, "What was measured when", _spared(molecule), table, drawn)
    if molecule.conditions:
        yield Section(3, "Conditions of the measurement", table=_conditions(molecule))
    if molecule.refined is not None:
        verdict = "believable" if molecule.refined.believable else "not believable"
        text = f"The simulation of the structure is {verdict}: {molecule.refined.reason}"
        yield Section(3, "Refinement", text, _residuals(molecule), figures.residual_figure(molecule.refined))


def _atoms(molecule: MoleculeRecord) -> Table:
    structure = molecule.structure
    assert structure is not None
    headings = ("atom", "element", "x (Å)", "y (Å)", "z (Å)", "sigma (Å)", "confidence", "next element")
    return Table(headings, tuple(_atom(structure, number) for number in range(len(structure))))


def _atom(structure: Structure, number: int) -> tuple[str, ...]:
    sigma = "/".join(f"{value:.2f}" if np.isfinite(value) else "?" for value in structure.sigma[number])
    chances = structure.probabilities[number]
    second = int(np.argsort(chances)[-2])
    other = f"{ELEMENTS[second]} {chances[second]:.0%}" if chances[second] > 0 else ""
    place = tuple(f"{value:.2f}" for value in structure.positions[number])
    return str(number + 1), structure.symbols[number], *place, sigma, f"{structure.confidence[number]:.2f}", other


def _measurements(molecule: MoleculeRecord) -> Table:
    rows = []
    for number, action in enumerate(molecule.actions, start=1):
        (first, end), again = action.rows, str(action.repeated or "")
        told = action.expected, action.doubt, action.field_doubt * ANGSTROM
        doubts = (f"{value:.3f}" if np.isfinite(value) else "?" for value in told)
        when = f"{action.time - molecule.begin:.0f}"
        rows.append((str(number), action.tip, str(action.layer), f"{first} to {end - 1}", again, when, *doubts))
    sigmas = "sigma expected (Å)", "found (Å)", "of the field (V/Å)"
    return Table(("measurement", "tip", "slice", "lines", "lines repeated", "done after (s)", *sigmas), tuple(rows))


def _spared(molecule: MoleculeRecord) -> str:
    """Say how much of the frame was measured."""
    assert molecule.stack is not None
    lines = np.any(molecule.stack.measured, axis=-1)
    slices = np.count_nonzero(np.any(lines, axis=1))
    return f"{np.count_nonzero(lines)} lines of {np.size(lines)} were measured, in {slices} slices."


def _conditions(molecule: MoleculeRecord) -> Table:
    rows = [
        (name.replace("_", " "), f"{value:.3f}", f"{sigma:.3f}", CONDITIONS.get(name, ""))
        for name, (value, sigma) in molecule.conditions.items()
    ]
    return Table(("condition", "value", "sigma", "unit"), tuple(rows))


def _residuals(molecule: MoleculeRecord) -> Table:
    refined = molecule.refined
    assert refined is not None
    columns = zip(refined.slices, refined.residual, refined.noise, refined.contrast, strict=True)
    rows = [(str(layer), *(f"{value:.4f}" for value in values)) for layer, *values in columns]
    return Table(("slice", "residual (N/m)", "noise (N/m)", "contrast (N/m)"), tuple(rows))
