"""How long frames of a world take: a metal with very many molecules, which is made where the tip comes near."""

from functools import partial

import jax
import numpy as np
from _cases import set_up
from _report import Figure, Report, arguments, duration, interleaved_costs

from twinscope.drivers.simulator.imaging import Imaging
from twinscope.drivers.simulator.world import World
from twinscope.drivers.simulator.world_options import WorldOptions
from twinscope.kernels import Cantilever, Tip

_ROUNDS = 3
_PIXELS = 256
# Sizes of frames, in m.
_SIZES = (10e-9, 50e-9, 300e-9)
_HEIGHT = 4e-10
# A frame far from the middle of a world of 1 µm.
_CENTER = (-330e-9, 210e-9)
_CHANNELS = (("frequency_shift",), ("frequency_shift", "current"))


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    set_up()
    report = Report(f"World: frames of {_PIXELS} x {_PIXELS} pixels, {_HEIGHT * 1e12:.0f} pm above flat molecules")
    for size in _SIZES:
        report_frame(report, size)
    report.notes += [
        f"devices: {len(jax.devices())}; the usual world, around x, y = {_CENTER[0] * 1e9:g}, {_CENTER[1] * 1e9:g} nm",
        "the first frame compiles what no frame before it has used, and makes the molecules; later ones do neither",
    ]
    report.finish(options.json)


def report_frame(report: Report, size: float) -> None:
    """Measure the frames of one size."""
    world = World(WorldOptions(step_density=0.0), Tip(), seed=3)
    name = f"{size * 1e9:.0f} nm"
    points = frame(size) * 1e10
    report.add(f"{name}: making its molecules", Figure((duration(partial(list, world.blocks(points))),)))
    imaging = Imaging(world, Tip(), Cantilever())
    actions = [partial(imaging.measure, frame(size), np.array([_HEIGHT]), channels) for channels in _CHANNELS]
    report.add(f"{name}: first image (compiles)", Figure((duration(actions[0]),)))
    for channels, cost in zip(_CHANNELS, interleaved_costs(actions, _ROUNDS), strict=True):
        report.add(f"{name}: {' and '.join(channels)}", cost.wall)
    blocks = list(world.blocks(points))
    atoms = int(np.mean([len(block.atoms.numbers) for block in blocks]))
    report.notes.append(
        f"{name}: {len(blocks)} blocks, with {atoms} atoms each in the mean, those that fill up included"
    )


def frame(size: float) -> np.ndarray:
    """Positions of the pixels of a square frame, in m."""
    axis = ((np.arange(_PIXELS) + 0.5) / _PIXELS - 0.5) * size
    x, y = np.meshgrid(axis + _CENTER[0], axis + _CENTER[1])
    return np.stack([x.ravel(), y.ravel()], axis=-1)


if __name__ == "__main__":
    main()
