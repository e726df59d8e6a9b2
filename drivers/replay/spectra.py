"""Recorded spectra as a sample: at any position, over any part of what was swept, on the branch that fits."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from twinscope._optional import import_optional
from twinscope.capabilities import Channel
from twinscope.drivers.replay.recording import RecordedSpectra
from twinscope.errors import ConfigurationError, InvalidRequestError, OutOfRangeError, UnknownChannelError
from twinscope.requests import SpectroscopyRequest, Sweep

SWEPT = ("z", "bias")
# The end of a loop and its beginning are one piece when they are not farther apart than so many usual steps.
_CLOSED = 2.5
# Of a sweep, to be within its recorded range in spite of rounding.
_ROUNDING = 1e-9
# Positions by which the distance of neighbours is found.
_ASKED = 256
# Around a spectrum that is alone, in m.
_ALONE = 1e-9


@dataclass(frozen=True)
class Branch:
    """A part of a recorded sweep that goes one way.

    Attributes
    ----------
    rises
        Whether its values do.
    values
        Of what was swept, rising, shape (k,).
    indices
        Points of the recorded sweep that they are, shape (k,).
    """

    rises: bool
    values: np.ndarray
    indices: np.ndarray

    def covers(self, sweep: Sweep) -> bool:
        """Whether a sweep stays within it."""
        margin = _ROUNDING * (self.values[-1] - self.values[0])
        low, high = sorted((sweep.start, sweep.stop))
        return bool(self.values[0] - margin <= low and high <= self.values[-1] + margin)


def branches_of(values: np.ndarray) -> list[Branch]:
    """Cut a sweep where it turns; where a loop ends near its beginning, and in the same way, the two are one branch."""
    steps = np.sign(np.diff(values))
    moving = np.flatnonzero(steps)
    if len(moving) == 0:
        return []
    # A step that stands still belongs to the part before it.
    steps = steps[moving[np.maximum(np.searchsorted(moving, np.arange(len(steps)), side="right") - 1, 0)]]
    turns = np.flatnonzero(np.diff(steps)) + 1
    ends = np.concatenate([[0], turns, [len(values) - 1]])
    pieces = [np.arange(first, last + 1) for first, last in itertools.pairwise(ends)]
    ways = [float(steps[first]) for first in ends[:-1]]
    usual = np.median(abs(np.diff(values))[moving])
    gap = (values[0] - values[-1]) * ways[0]
    if len(pieces) > 2 and ways[0] == ways[-1] and 0 <= gap <= _CLOSED * usual:
        pieces[0] = np.concatenate([pieces.pop(), pieces[0]])
    return [_branch(values, piece, way > 0) for piece, way in zip(pieces, ways, strict=False)]


def _branch(values: np.ndarray, piece: np.ndarray, rises: bool) -> Branch:
    different, first = np.unique(values[piece], return_index=True)
    return Branch(rises, different, piece[first])


@dataclass(frozen=True)
class _Group:
    recorded: RecordedSpectra
    branches: list[Branch]

    @property
    def names(self) -> list[str]:
        return [channel.name for channel in self.recorded.channels]

    def branch(self, sweep: Sweep) -> tuple[Branch | None, bool]:
        """Return the branch for a sweep, None where there is none, and whether it goes the other way."""
        rises = sweep.stop > sweep.start
        same = [branch for branch in self.branches if branch.rises == rises]
        for branch in same or self.branches:
            if branch.covers(sweep):
                return branch, not same
        return None, False


@dataclass(frozen=True)
class Curves:
    """What a request asks for, from the spectra that can answer it.

    Attributes
    ----------
    positions
        Of the spectra, in m, shape (n, 2).
    values
        Shape (n, channels, points): already along the sweep of the request.
    warnings
        What is not as it was asked for.
    """

    positions: np.ndarray
    values: np.ndarray
    spacing: float
    linear: bool
    warnings: list[str] = field(default_factory=list)

    def has(self, places: np.ndarray) -> np.ndarray:
        """Tell which places (m, 2), in m, are among the spectra, or not farther away than half of their distance."""
        low, high = _box(self.positions, self.spacing)
        return np.asarray(((places >= low) & (places <= high)).all(axis=1))

    def at(self, places: np.ndarray) -> np.ndarray:
        """Return the spectra of places (m, 2), in m; NaN where there are none; shape (m, channels, points)."""
        result = np.full((len(places), *self.values.shape[1:]), np.nan)
        inside = self.has(places)
        if inside.any():
            result[inside] = self._interpolated(places[inside]) if self.linear else self._nearest(places[inside])
        return result

    def _nearest(self, places: np.ndarray) -> np.ndarray:
        chosen = [np.argmin(((self.positions - place) ** 2).sum(axis=1)) for place in places]
        return np.asarray(self.values[chosen])

    def _interpolated(self, places: np.ndarray) -> np.ndarray:
        """Interpolate between the three spectra around each place; at the edges the nearest one."""
        spatial = import_optional("scipy.spatial", "replay")
        try:
            mesh = spatial.Delaunay(self.positions / self.spacing)
        except (spatial.QhullError, ValueError) as exc:
            raise InvalidRequestError(
                f"the {len(self.positions)} recorded positions lie on a line or are fewer than three: nothing can be"
                " interpolated between them, set spectra='nearest'",
                name="spectra",
            ) from exc
        scaled = places / self.spacing
        simplices = mesh.find_simplex(scaled, tol=1e-9)
        affine = mesh.transform[simplices]
        two = np.einsum("nij,nj->ni", affine[:, :2], scaled - affine[:, 2])
        factors = np.concatenate([two, 1 - two.sum(axis=1, keepdims=True)], axis=1)
        factors[abs(factors) < _ROUNDING] = 0.0
        result = np.zeros((len(places), *self.values.shape[1:]))
        for corner in range(3):
            factor = factors[:, corner, None, None]
            part = factor * self.values[mesh.simplices[simplices, corner]]
            result += np.where(factor == 0, 0.0, part)
        beyond = simplices < 0
        result[beyond] = self._nearest(places[beyond])
        return result


class Spectra:
    """Everything that was recorded as spectra.

    Parameters
    ----------
    recorded
        Of all files; those of something else than z and bias are left out.
    linear
        Whether to interpolate between positions, instead of taking the nearest spectrum.
    """

    def __init__(self, recorded: Iterable[RecordedSpectra], *, linear: bool) -> None:
        self._linear = linear
        self._groups: list[_Group] = []
        self.channels: dict[str, Channel] = {}
        self.warnings: list[str] = []
        for spectra in recorded:
            if spectra.swept not in SWEPT:
                self.warnings.append(f"spectra over {spectra.swept} are left out: sweeps are of z and bias")
                continue
            branches = branches_of(spectra.values.astype(float))
            if not branches:
                self.warnings.append(f"spectra over {spectra.swept} are left out: it does not change in them")
                continue
            self._groups.append(_Group(spectra, branches))
            for channel in spectra.channels:
                if self.channels.setdefault(channel.name, channel).unit != channel.unit:
                    raise ConfigurationError(
                        f"the channel {channel.name} has two units: the files do not belong together, give one of them",
                        name="file",
                    )

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of everything that was swept."""
        ranges = {}
        for swept in SWEPT:
            found = [group.recorded.values for group in self._groups if group.recorded.swept == swept]
            if found:
                ranges[swept] = float(min(map(np.min, found))), float(max(map(np.max, found)))
        return ranges

    @property
    def corners(self) -> np.ndarray:
        """Lowest and highest x and y that spectra stand for, in m, shape (2 groups, 2)."""
        boxes = [_box(group.recorded.positions, spacing_of(group.recorded.positions)) for group in self._groups]
        corners = [np.nan_to_num(corner, posinf=_ALONE, neginf=-_ALONE) for box in boxes for corner in box]
        alone = [len(group.recorded.positions) == 1 for group in self._groups for _ in range(2)]
        places = [group.recorded.positions[0] for group in self._groups for _ in range(2)]
        shifted = [corner + place if one else corner for corner, place, one in zip(corners, places, alone, strict=True)]
        return np.array(shifted).reshape(-1, 2)

    def find(self, request: SpectroscopyRequest) -> Curves:
        """Return the spectra that can answer a request.

        Raises
        ------
        UnknownChannelError
            When a channel was not recorded in spectra.
        InvalidRequestError
            When the channels were not recorded together.
        OutOfRangeError
            When no spectrum goes over the whole sweep, in its direction where the recording has both.
        """
        groups = self._with_channels(request)
        found = [(group, *group.branch(request.sweep)) for group in groups]
        fitting = [(group, branch, turned) for group, branch, turned in found if branch is not None]
        if not fitting:
            self._refuse(request, groups)
        if self._linear:
            fitting = [max(fitting, key=lambda one: len(one[0].recorded.positions))]
        warnings = []
        if any(turned for _, _, turned in fitting):
            way = "falling" if request.sweep.stop > request.sweep.start else "rising"
            warnings.append(f"the spectra were recorded with {way} {request.swept} only: the other way is the same")
        positions = np.concatenate([group.recorded.positions for group, _, _ in fitting])
        values = np.concatenate([_along(group, branch, request) for group, branch, _ in fitting])
        return Curves(positions, values, spacing_of(positions), self._linear, warnings)

    def _with_channels(self, request: SpectroscopyRequest) -> list[_Group]:
        for name in request.channels:
            if name not in self.channels:
                known = ", ".join(self.channels) or "none"
                raise UnknownChannelError(
                    f"there are no spectra of the channel {name!r}: this recording has spectra of {known}", name=name
                )
        same = [group for group in self._groups if group.recorded.swept == request.swept]
        groups = [group for group in same if set(request.channels) <= set(group.names)]
        if not groups:
            raise InvalidRequestError(
                f"{', '.join(request.channels)} were not recorded together over {request.swept}: ask for one by one"
            )
        return groups

    def _refuse(self, request: SpectroscopyRequest, groups: Sequence[_Group]) -> None:
        sweep = request.sweep
        rises = sweep.stop > sweep.start
        ways = sorted({_told(branch) for group in groups for branch in group.branches})
        raise OutOfRangeError(
            f"the sweep of {request.swept} {'rises' if rises else 'falls'} from {sweep.start:.6g} to {sweep.stop:.6g}:"
            f" the recorded ones go {', '.join(ways)}; it was not clamped, stay within one of them",
            name="sweep",
        )


def spacing_of(positions: np.ndarray) -> float:
    """Return the usual distance of a position (n, 2) from its nearest neighbour; infinity for one that is alone."""
    asked = positions[:: max(len(positions) // _ASKED, 1)]
    distances = np.hypot(*(asked[:, None] - positions[None]).transpose(2, 0, 1))
    distances[distances == 0] = np.inf
    nearest = distances.min(axis=1)
    return float(np.median(nearest)) if np.isfinite(nearest).any() else float("inf")


def _box(positions: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    half = spacing / 2 * (1 + _ROUNDING)
    return positions.min(axis=0) - half, positions.max(axis=0) + half


def _told(branch: Branch) -> str:
    ends = branch.values[[0, -1]] if branch.rises else branch.values[[-1, 0]]
    return f"from {ends[0]:.6g} to {ends[1]:.6g}"


def _along(group: _Group, branch: Branch | None, request: SpectroscopyRequest) -> np.ndarray:
    """Interpolate all spectra of a group (n, channels, points) along a sweep."""
    assert branch is not None
    rows = [group.names.index(name) for name in request.channels]
    at = np.interp(request.sweep.values(), branch.values, np.arange(len(branch.values)))
    whole = np.rint(at)
    at = np.where(abs(at - whole) < 1e-6, whole, at)
    first = np.minimum(at.astype(int), len(branch.values) - 2)
    rest = at - first
    data = group.recorded.data[:, rows].astype(float)
    before, behind = data[:, :, branch.indices[first]], data[:, :, branch.indices[first + 1]]
    # A point that does not count must not spread what it does not know.
    return np.asarray(np.where(rest == 1, 0, before * (1 - rest)) + np.where(rest == 0, 0, behind * rest))
