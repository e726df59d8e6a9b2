"""Terraces of a world: steps that go down one way, with edges that meander."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from twinscope.drivers.simulator.cells import generator
from twinscope.kernels import StepEdges

# In units of the mean width of a terrace: how far an edge is from where it would be in an even row; lengths of the
# waves along it; and all their amplitudes together. Two edges stay 0.4 apart.
_JITTER, _MEANDER = 0.2, 0.1
_WAVES = (3.0, 1.3, 0.5, 0.15)
# Far from an edge (Å) nothing is left of its smoothing.
_SMOOTH = 20.0
# Lists of edges have one of these lengths, or a multiple of the last, so that shapes are few.
_FEW = 2


@dataclass(frozen=True)
class EdgePoint:
    """A place on an edge: position and the direction of the edge there, and the one down the step."""

    x: float
    y: float
    along: float
    down: tuple[float, float]


@dataclass(frozen=True)
class Steps:
    """All steps of a world; edge 0 is the first one beyond the middle, which is on terrace 0.

    Attributes
    ----------
    seed
        Of all edges.
    height
        Of a step, in Å.
    width
        Of a terrace in the mean, in Å; infinite for none.
    direction
        Down the steps, counter-clockwise from x, in radians.
    """

    seed: tuple[int, ...]
    height: float
    width: float
    direction: float

    @property
    def steepest(self) -> float:
        """Slope that the meander of an edge cannot exceed."""
        return float(2 * np.pi * _MEANDER * len(_WAVES) / sum(_WAVES))

    def terrace(self, points: np.ndarray) -> np.ndarray:
        """Which terrace positions (n, 2), in Å, are on: 0 in the middle, less down the steps."""
        if np.isinf(self.width) or len(points) == 0:
            return np.zeros(len(points), int)
        first, edges = self._around(points, 0.0)
        passed: np.ndarray = (edges.beyond(*points.T)[0] > 0).sum(axis=0)
        return -first - passed

    def distance(self, points: np.ndarray) -> np.ndarray:
        """At least how far positions (n, 2) are from the next edge, in Å."""
        if np.isinf(self.width) or len(points) == 0:
            return np.full(len(points), np.inf)
        _, edges = self._around(points, self.width)
        nearest: np.ndarray = np.abs(edges.beyond(*points.T)[0]).min(axis=0)
        return nearest / math.hypot(1, self.steepest)

    def near(self, points: np.ndarray, origin: np.ndarray) -> tuple[float, StepEdges]:
        """Find the steps that matter at positions (n, 2), in Å.

        Returns
        -------
        height
            Of the terrace on the high side of all of them, in Å; terrace 0 is at zero.
        edges
            Seen from `origin`, a multiple of two of them; those that are too many do not rise.
        """
        first, edges = self._around(points, _SMOOTH)
        moved = np.array([np.cos(self.direction), np.sin(self.direction)]) @ origin
        along = np.array([-np.sin(self.direction), np.cos(self.direction)]) @ origin
        shifted = replace(
            edges, offset=edges.offset - moved, phase=(edges.phase + edges.wavenumber * along) % (2 * np.pi)
        )
        low, high = points.min(axis=0) - origin - _SMOOTH, points.max(axis=0) - origin + _SMOOTH
        # The corners do not tell, for an edge meanders: a grid finer than the smoothing does.
        axes = [np.linspace(a, b, 2 + int((b - a) / (_SMOOTH / 2))) for a, b in zip(low, high, strict=True)]
        grid = [axis.ravel() for axis in np.meshgrid(*axes)]
        beyond = shifted.beyond(*grid)[0]
        passed, ahead = (beyond > _SMOOTH).all(axis=1), (beyond < -_SMOOTH).all(axis=1)
        crossed = first + int(passed.sum())
        chosen = _taken(shifted, np.flatnonzero(~passed & ~ahead))
        return -crossed * self.height, _filled(chosen, -(-max(len(chosen.offset), 1) // _FEW) * _FEW)

    def edge_point(self, index: int, along: float) -> EdgePoint:
        """Find the point of an edge at a coordinate along it, in Å."""
        edge = self._edge(index)
        turn = edge.wavenumber[0] * along + edge.phase[0]
        offset = edge.offset[0] + float(edge.amplitude[0] @ np.cos(turn))
        slope = -float((edge.amplitude[0] * edge.wavenumber[0]) @ np.sin(turn))
        cosine, sine = np.cos(self.direction), np.sin(self.direction)
        turned = self.direction - np.arctan(slope)
        return EdgePoint(
            cosine * offset - sine * along,
            sine * offset + cosine * along,
            turned + np.pi / 2,
            (float(np.cos(turned)), float(np.sin(turned))),
        )

    def indices(self, points: np.ndarray, margin: float) -> range:
        """Edges that may be as near as `margin` (Å) to one of the positions (n, 2)."""
        if np.isinf(self.width):
            return range(0)
        across = points @ np.array([np.cos(self.direction), np.sin(self.direction)])
        reach = _JITTER + _MEANDER
        low = np.floor((across.min() - margin) / self.width - 0.5 - reach)
        high = np.ceil((across.max() + margin) / self.width - 0.5 + reach)
        return range(int(low), int(high) + 1)

    def _around(self, points: np.ndarray, margin: float) -> tuple[int, StepEdges]:
        """Return the index of the first edge of a list that holds all near some positions, and the list."""
        indices = self.indices(points, margin)
        return indices[0], _joined([self._edge(index) for index in indices])

    def _edge(self, index: int) -> StepEdges:
        return _edge(self, index)


@lru_cache(1024)
def _edge(steps: Steps, index: int) -> StepEdges:
    rng = generator(*steps.seed, index)
    lengths = np.array(_WAVES) * steps.width
    amplitudes = _MEANDER * steps.width * np.array(_WAVES) / sum(_WAVES)
    return StepEdges(
        np.array([steps.direction]),
        np.array([(index + 0.5 + _JITTER * rng.uniform(-1, 1)) * steps.width]),
        np.array([-steps.height]),
        amplitudes[None],
        2 * np.pi / lengths[None],
        rng.uniform(0, 2 * np.pi, (1, len(_WAVES))),
    )


def _joined(edges: list[StepEdges]) -> StepEdges:
    names = vars(edges[0])
    return StepEdges(**{name: np.concatenate([getattr(edge, name) for edge in edges]) for name in names})


def _taken(edges: StepEdges, chosen: np.ndarray) -> StepEdges:
    return StepEdges(**{name: values[chosen] for name, values in vars(edges).items()})


def _filled(edges: StepEdges, count: int) -> StepEdges:
    missing = count - len(edges.offset)
    return StepEdges(
        **{name: np.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1)) for name, values in vars(edges).items()}
    )
