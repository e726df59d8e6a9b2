"""What is really under the tip, as plain data: for the oracle that scores an agent, and for nobody else."""

from typing import Any

import numpy as np

from twinscope.drivers.common.units import ANGSTROM
from twinscope.drivers.simulator.cells import Disc
from twinscope.drivers.simulator.placements import Placement
from twinscope.drivers.simulator.sample import Sample
from twinscope.drivers.simulator.surface import Surface
from twinscope.drivers.simulator.world import World
from twinscope.errors import InvalidRequestError
from twinscope.kernels import ELEMENTS

# Between the points that describe the edge of a step, in Å.
_SPACING = 10.0


def truth(surface: Surface, x0: float, y0: float, x1: float, y1: float) -> dict[str, Any]:
    """Tell what is in a rectangle.

    Parameters
    ----------
    surface
        Sample or world.
    x0, y0, x1, y1
        Its corners, in m.

    Returns
    -------
    dict
        Plain data in SI units, angles in degrees: `molecules` and `contamination` (each with `id`, `kind`, `position`,
        `terrace`, `angle`, `tilt`, `flipped`, `atoms`, a list of symbol, x, y, z, and their `charges` in e), `islands`
        (`kind`, `position`, `radius`, `lattice`) and `steps` (`height` and the points of the edge). What has its middle
        in the rectangle is in it; heights are measured as those of the tip.

    Raises
    ------
    InvalidRequestError
        When the rectangle has no area.
    """
    if not (x0 < x1 and y0 < y1):
        raise InvalidRequestError(f"the rectangle goes from ({x0}, {y0}) to ({x1}, {y1}) m: expected x0 < x1, y0 < y1")
    corners = (x0 / ANGSTROM, y0 / ANGSTROM, x1 / ANGSTROM, y1 / ANGSTROM)
    if isinstance(surface, World):
        return _of_world(surface, *corners)
    if isinstance(surface, Sample):
        return _of_sample(surface, *corners)
    raise InvalidRequestError(f"the truth about {surface.name} is not known: expected a sample or a world")


def _of_world(world: World, x0: float, y0: float, x1: float, y1: float) -> dict[str, Any]:
    things = world.molecules(x0, y0, x1, y1)
    return {
        "molecules": [_thing(one, world) for one in things if not one.is_dirt],
        "contamination": [_thing(one, world) for one in things if one.is_dirt],
        "islands": [_island(disc) for disc in world.islands(x0, y0, x1, y1)],
        "steps": _steps(world, x0, y0, x1, y1),
    }


def _of_sample(sample: Sample, x0: float, y0: float, x1: float, y1: float) -> dict[str, Any]:
    """Tell about a sample, whose middle is at x = y = 0; of a periodic one, the atoms of a cell."""
    inside = x0 <= 0 < x1 and y0 <= 0 < y1
    molecule = {
        "id": "sample",
        "kind": sample.name,
        "position": [0.0, 0.0, 0.0],
        "terrace": 0,
        "angle": 0.0,
        "tilt": 0.0,
        "flipped": False,
        "atoms": _atoms(np.asarray(sample.atoms.numbers), np.asarray(sample.atoms.positions, float)),
        "charges": _charges(sample),
    }
    return {"molecules": [molecule] if inside else [], "contamination": [], "islands": [], "steps": []}


def _thing(one: Placement, world: World) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind,
        "position": [one.x * ANGSTROM, one.y * ANGSTROM, one.z * ANGSTROM],
        "terrace": round(one.ground / world.layers.steps.height),
        "angle": float(np.degrees(one.pose.angle) % 360),
        "tilt": float(np.degrees(one.pose.tilt)),
        "flipped": one.pose.flipped,
        "atoms": _atoms(one.species.numbers, one.positions),
        "charges": one.species.charges.tolist(),
    }


def _atoms(numbers: np.ndarray, positions: np.ndarray) -> list[tuple[str, float, float, float]]:
    return [
        (ELEMENTS[number - 1].symbol, x * ANGSTROM, y * ANGSTROM, z * ANGSTROM)
        for number, (x, y, z) in zip(numbers.tolist(), positions.tolist(), strict=True)
    ]


def _charges(sample: Sample) -> list[float]:
    charges = sample.atoms.charges
    given = np.zeros(len(sample.atoms.numbers)) if charges is None else np.asarray(charges, float)
    plain: list[float] = given.tolist()
    return plain


def _island(disc: Disc) -> dict[str, Any]:
    return {
        "kind": disc.mark.species.name,
        "position": [disc.x * ANGSTROM, disc.y * ANGSTROM],
        "radius": disc.mark.radius * ANGSTROM,
        "lattice": (disc.mark.lattice * ANGSTROM).tolist(),
    }


def _steps(world: World, x0: float, y0: float, x1: float, y1: float) -> list[dict[str, Any]]:
    """List the edges that cross a rectangle, each as the points of it that are inside."""
    steps = world.layers.steps
    corners = np.array([(x0, y0), (x0, y1), (x1, y0), (x1, y1)])
    along = corners @ np.array([-np.sin(steps.direction), np.cos(steps.direction)])
    found = []
    for index in steps.indices(corners, 0.0):
        every = (steps.edge_point(index, t) for t in np.arange(along.min(), along.max() + _SPACING, _SPACING))
        points = [[one.x * ANGSTROM, one.y * ANGSTROM] for one in every if x0 <= one.x < x1 and y0 <= one.y < y1]
        if points:
            found.append({"height": steps.height * ANGSTROM, "points": points})
    return found
