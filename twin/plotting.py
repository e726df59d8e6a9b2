"""Pictures of results."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscope._optional import import_optional
from twinscope.results import Axis, ChannelData, Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Panels in the picture of a stack.
_MOST_PANELS = 6
# Curves that a legend names.
_MOST_NAMED = 12


def plot(data: ChannelData, ax: "Axes | None" = None) -> "Axes":
    """Draw an image, the last layer of a stack, or spectra as curves; returns the axes drawn on."""
    if ax is None:
        pyplot: Any = import_optional("matplotlib.pyplot", "plot")
        ax = pyplot.subplots(layout="constrained")[1]
    if data.axes[-1].name == "x":
        _draw_image(ax, data, (-1,) * (len(data.axes) - 2))
    else:
        _draw_curves(ax, data)
    return ax


def save_picture(measurement: Measurement, path: Path, channel: str | None = None) -> Path:
    """Write a PNG of one channel: of a stack up to six layers, the nearest last. No display is needed.

    Raises
    ------
    InvalidRequestError
        When the channel was not recorded.
    """
    import_optional("matplotlib", "plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    data = measurement[channel or next(iter(measurement))]
    layers: list[tuple[int, ...]] = [()]
    if len(data.axes) == 3:
        count = min(len(data.axes[0].values), _MOST_PANELS)
        layers = [(int(i),) for i in np.linspace(0, len(data.axes[0].values) - 1, count).round()]
    columns = min(len(layers), 3)
    rows = -(-len(layers) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.8 * rows), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, layer in zip(panels, layers, strict=False):
        if data.axes[-1].name == "x":
            _draw_image(ax, data, layer)
        else:
            plot(data, ax)
    for ax in panels[len(layers) :]:
        ax.axis("off")
    figure.suptitle(str(measurement.metadata["instrument"]["instrument"]))
    figure.savefig(path)
    return path


def _draw_image(ax: "Axes", data: ChannelData, layer: tuple[int, ...]) -> None:
    y, x = data.axes[-2:]
    image = ax.imshow(
        np.ma.masked_invalid(data.values[layer]),
        cmap="gray",
        origin="lower",
        extent=(*_edges(x), *_edges(y)),
        interpolation="nearest",
    )
    ax.set_xlabel("x (nm)")
    ax.set_ylabel("y (nm)")
    title = data.quantity
    if layer:
        title += f", z = {data.axes[0].values[layer[0]] * 1e12:.0f} pm"
    ax.set_title(title, fontsize="medium")
    if np.isfinite(data.values[layer]).any():
        ax.figure.colorbar(image, ax=ax, label=data.unit)
    else:
        ax.text(0.5, 0.5, "not measured", ha="center", va="center", transform=ax.transAxes)


def _draw_curves(ax: "Axes", data: ChannelData) -> None:
    first, along = data.axes
    scale, unit = (1e9, "nm") if along.unit == "m" else (1.0, along.unit)
    for number, curve in enumerate(data.values):
        ax.plot(along.values * scale, curve, label=f"{first.name} {number}")
    ax.set_xlabel(along.quantity if unit == "1" else f"{along.quantity} ({unit})")
    ax.set_ylabel(f"{data.quantity} ({data.unit})")
    if 1 < len(data.values) <= _MOST_NAMED:
        ax.legend()


def _edges(axis: Axis) -> tuple[float, float]:
    """Outer edges, in nm, of the pixels along an axis."""
    values = axis.values * 1e9
    half = (values[-1] - values[0]) / max(len(values) - 1, 1) / 2 or 0.5
    return float(values[0] - half), float(values[-1] + half)
