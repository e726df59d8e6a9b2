"""Pictures of a report, drawn without a display."""

from typing import TYPE_CHECKING, Any

import numpy as np

from twinscope._optional import import_optional
from twinscope.agents.structure_discovery.agent.operator import ANGSTROM
from twinscope.agents.structure_discovery.agent.overview import Overview
from twinscope.agents.structure_discovery.agent.record import DiscoveryRecord, MoleculeRecord
from twinscope.agents.structure_discovery.prediction import DescriptorMap, Prediction
from twinscope.agents.structure_discovery.refinement import Refined
from twinscope.agents.structure_discovery.stack import ImageStack
from twinscope.agents.structure_discovery.structure import Structure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours of elements, near those of Corey, Pauling and Koltun.
_COLOURS = {
    "H": "#ffffff",
    "C": "#606060",
    "N": "#4060ff",
    "O": "#ff3030",
    "F": "#70d060",
    "Si": "#d0a060",
    "P": "#ff9020",
    "S": "#e0d020",
    "Cl": "#20c020",
    "Br": "#a03030",
}
_UNKNOWN_COLOUR = "#ff40ff"
_KIND_COLOURS = {"molecule": "tab:red", "neighbour": "tab:orange", "dirt": "0.6"}
_PANEL = 2.6
_MOST_COLUMNS = 5


def overview_figure(record: DiscoveryRecord, overview: Overview) -> "Figure":
    """Draw the area, what was found in it, and the frames of the molecules."""
    figure, ((ax,),) = _figure(1, 1, size=5.5)
    _image(ax, overview.relief, overview.x / 10, overview.y / 10, overview.unit, label="nm")
    for region in overview.regions:
        ax.plot(region.x / 10, region.y / 10, "o", mfc="none", mec=_KIND_COLOURS[region.kind], ms=9)
    for number, molecule in enumerate(record.molecules, start=1):
        x, y = (value / ANGSTROM / 10 for value in molecule.center)
        size = 1.6 if molecule.framed is None else molecule.framed.place.width / 10
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]) * size / 2
        ax.plot(x + corners[:, 0], y + corners[:, 1], "w-", lw=1.2)
        ax.annotate(str(number), (x + size / 2, y + size / 2), color="white", fontsize=11)
    ax.set_title(f"{len(overview.molecules)} molecules of {len(overview.regions)} things")
    return figure


def slices_figure(stack: ImageStack) -> "Figure":
    """Draw the slices that were measured, from far to near."""
    chosen = np.flatnonzero(stack.measured.any(axis=(1, 2)))
    figure, axes = _panels(len(chosen))
    for ax, layer in zip(axes, chosen, strict=True):
        _image(ax, stack.frequency_shift[layer], stack.x, stack.y, "Hz", colours="gray")
        ax.set_title(f"slice {layer}: {stack.z[layer] - stack.z[-1]:+.2f} Å", fontsize=9)
    return figure


def maps_figure(prediction: Prediction) -> "Figure":
    """Draw every map above its standard deviation."""
    maps = list(prediction.maps.values())
    figure, axes = _figure(2, len(maps))
    for (upper, lower), one in zip(axes.T, maps, strict=True):
        _image(upper, one.values, prediction.x, prediction.y, one.unit)
        upper.set_title(one.name.replace("_", " "), fontsize=9)
        _draw_sigma(lower, one, prediction)
    return figure


def structure_figure(structure: Structure, stack: ImageStack) -> "Figure":
    """Draw the atoms over the nearest slice; the more certain, the less transparent."""
    figure, ((ax,),) = _figure(1, 1, size=5.0)
    layer = int(np.flatnonzero(stack.measured.any(axis=(1, 2)))[-1])
    _image(ax, stack.frequency_shift[layer], stack.x, stack.y, "Hz", colours="gray")
    x, y = structure.positions[:, 0], structure.positions[:, 1]
    for (first, second), order in zip(structure.bonds, structure.bond_orders, strict=True):
        ax.plot(x[[first, second]], y[[first, second]], "-", color="gold", lw=1.0 + order, alpha=0.7)
    for number, symbol in enumerate(structure.symbols):
        colour = _COLOURS.get(symbol, _UNKNOWN_COLOUR)
        alpha = float(np.clip(structure.confidence[number], 0.15, 1.0))
        ax.plot(x[number], y[number], "o", mfc=colour, mec="black", ms=9, alpha=alpha)
        ax.annotate(str(number + 1), (x[number], y[number]), fontsize=6, ha="center", va="center")
    ax.set_title("".join(_formula(structure)))
    return figure


def residual_figure(refined: Refined) -> "Figure":
    """Draw what was measured, what the refined structure gives, and what is left, for the nearest slice compared."""
    figure, axes = _panels(3)
    left = refined.measured[-1] - refined.simulated[-1]
    titles = ("measured", "simulated", "left")
    for ax, values, title in zip(axes, (refined.measured[-1], refined.simulated[-1], left), titles, strict=True):
        _image(ax, values, refined.x, refined.y, "N/m")
        ax.set_title(title, fontsize=9)
    return figure


def history_figure(molecule: MoleculeRecord) -> "Figure":
    """Draw how the doubt fell, and how it was expected to fall."""
    figure, ((ax,),) = _figure(1, 1, size=4.0)
    time = [action.time - molecule.begin for action in molecule.actions]
    ax.plot(time, [action.doubt for action in molecule.actions], "o-", label="found")
    ax.plot(time, [action.expected for action in molecule.actions], "x", label="expected")
    for when, action in zip(time, molecule.actions, strict=True):
        if np.isfinite(action.doubt):
            ax.annotate(str(action.layer), (when, action.doubt), fontsize=8, xytext=(3, 3), textcoords="offset points")
    ax.set(xlabel="instrument time (s)", ylabel="mean sigma over the molecule (Å)")
    ax.legend()
    return figure


def _formula(structure: Structure) -> list[str]:
    """Element symbols with their numbers, in the order of the periodic system."""
    counts: dict[str, int] = {}
    for symbol in np.array(structure.symbols)[np.argsort(structure.numbers, kind="stable")]:
        counts[str(symbol)] = counts.get(str(symbol), 0) + 1
    return [symbol + (str(count) if count > 1 else "") for symbol, count in counts.items()]


def _draw_sigma(ax: "Axes", one: DescriptorMap, prediction: Prediction) -> None:
    if np.isfinite(one.sigma).any():
        _image(ax, one.sigma, prediction.x, prediction.y, one.unit, colours="magma")
        ax.set_title("sigma", fontsize=9)
    else:
        ax.axis("off")
        ax.set_title("sigma is not known", fontsize=9)


def _panels(count: int) -> tuple["Figure", list["Axes"]]:
    """Return as many panels as asked for, in rows."""
    columns = min(count, _MOST_COLUMNS)
    rows = -(-count // columns)
    figure, axes = _figure(rows, columns)
    for ax in axes.flat[count:]:
        ax.axis("off")
    return figure, list(axes.flat[:count])


def _figure(rows: int, columns: int, size: float = _PANEL) -> tuple["Figure", Any]:
    import_optional("matplotlib", "agents", "a report")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size * columns * 1.2, size * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _image(
    ax: "Axes",
    values: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    unit: str,
    *,
    label: str = "Å",
    colours: str = "viridis",
) -> None:
    half_x, half_y = (x[1] - x[0]) / 2, (y[1] - y[0]) / 2
    extent = (float(x[0] - half_x), float(x[-1] + half_x), float(y[0] - half_y), float(y[-1] + half_y))
    drawn = ax.imshow(values, origin="lower", extent=extent, cmap=colours, interpolation="nearest")
    bar = ax.figure.colorbar(drawn, ax=ax, shrink=0.8)
    bar.set_label(unit, fontsize=8)
    ax.set_xlabel(label, fontsize=8)
    ax.tick_params(labelsize=7)
