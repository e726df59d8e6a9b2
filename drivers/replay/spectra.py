"""Recorded spectra as a sample: which of them can answer a request."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinscope.capabilities import Channel
from twinscope.drivers.replay.branches import Branch, branches_of
from twinscope.drivers.replay.curves import Curves, Part, box_of, interpolation_package, mesh_of, spacing_of
from twinscope.drivers.replay.recording import RecordedSpectra
from twinscope.errors import ConfigurationError, InvalidRequestError, OutOfRangeError, UnknownChannelError
from twinscope.requests import SpectroscopyRequest, Sweep

SWEPT = ("z", "bias")
# Where a spectrum that is alone can be asked for, in m, if there is nothing else; it is the same everywhere.
_ALONE = 1e-9


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


class Spectra:
    """Everything that was recorded as spectra.

    Parameters
    ----------
    recorded
        Of all files; those of something else than z and bias are left out.
    linear
        Whether to interpolate between positions, instead of taking the nearest spectrum.

    Attributes
    ----------
    channels
        By their names.
    warnings
        What is left out.
    """

    def __init__(self, recorded: Iterable[RecordedSpectra], *, linear: bool) -> None:
        self._linear = linear
        self._groups: list[_Group] = []
        self._meshes: dict[int, Any] = {}
        self.channels: dict[str, Channel] = {}
        self.warnings: list[str] = []
        for spectra in recorded:
            self._add(spectra)
        if linear and self._groups:
            # When the driver is made is the time to say that it is missing.
            interpolation_package()

    def _add(self, spectra: RecordedSpectra) -> None:
        if spectra.swept not in SWEPT:
            self.warnings.append(f"spectra over {spectra.swept} are left out: sweeps are of z and bias")
            return
        branches = branches_of(spectra.values.astype(float))
        if not branches:
            self.warnings.append(f"spectra over {spectra.swept} are left out: it does not change in them")
            return
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
        boxes: list[np.ndarray] = []
        for group in self._groups:
            spacing = spacing_of(group.recorded.positions)
            boxes += box_of(group.recorded.positions, spacing if np.isfinite(spacing) else _ALONE)
        return np.array(boxes).reshape(-1, 2)

    def find(self, request: SpectroscopyRequest) -> Curves:
        """Return the spectra that can answer a request.

        Raises
        ------
        UnknownChannelError
            When a channel was not recorded in spectra.
        InvalidRequestError
            When the channels were not recorded together, or nothing can be interpolated between the positions.
        OutOfRangeError
            When no spectrum goes over the whole sweep, in its direction where the recording has both.
        """
        groups = self._with_channels(request)
        found = [(group, *group.branch(request.sweep)) for group in groups]
        fitting = [(group, branch, turned) for group, branch, turned in found if branch is not None]
        if not fitting:
            raise _out_of_range(request, groups)
        mesh = None
        if self._linear:
            # What was recorded at other places, or otherwise, does not lie between these.
            fitting = [max(fitting, key=lambda one: len(one[0].recorded.positions))]
            mesh = self._mesh(fitting[0][0].recorded.positions)
        parts = [_part(group, branch, request) for group, branch, _ in fitting]
        warnings = []
        if any(turned for _, _, turned in fitting):
            way = "falling" if request.sweep.stop > request.sweep.start else "rising"
            warnings.append(f"the spectra were recorded with {way} {request.swept} only: the other way is the same")
        return Curves(parts, mesh, warnings)

    def _mesh(self, positions: np.ndarray) -> Any:
        if id(positions) not in self._meshes:
            self._meshes[id(positions)] = mesh_of(positions)
        return self._meshes[id(positions)]

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


def _part(group: _Group, branch: Branch, request: SpectroscopyRequest) -> Part:
    rows = [group.names.index(name) for name in request.channels]
    return Part(group.recorded.positions, group.recorded.data, rows, branch, request.sweep)


def _out_of_range(request: SpectroscopyRequest, groups: Sequence[_Group]) -> OutOfRangeError:
    sweep = request.sweep
    way = "rises" if sweep.stop > sweep.start else "falls"
    recorded = sorted({str(branch) for group in groups for branch in group.branches})
    return OutOfRangeError(
        f"the sweep of {request.swept} {way} from {sweep.start:.6g} to {sweep.stop:.6g}: the recorded ones go"
        f" {', '.join(recorded)}; it was not clamped, stay within one of them",
        name="sweep",
    )
