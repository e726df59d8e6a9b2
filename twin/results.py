"""What a microscope gives back: arrays with name, unit and axes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscope.capabilities import Channel
from twinscope.errors import InvalidRequestError
from twinscope.requests import AcquisitionRequest, PathRequest, ScanRequest, SpectroscopyRequest, request_from_dict

if TYPE_CHECKING:
    import sidpy
    import xarray
    from matplotlib.axes import Axes
    from numpy.typing import DTypeLike


# Name, unit and meaning of the axis along which a spectroscopy sweeps.
_SWEEPS = {"z": ("height", "m", "Tip height"), "bias": ("voltage", "V", "Bias voltage")}


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of an array.

    Attributes
    ----------
    name
        "x", "y", "height", "voltage", "position" or "pass".
    unit
        SI unit; "1" for a number without.
    quantity
        What it is, in words for people.
    values
        One per element along the axis.
    """

    name: str
    unit: str
    quantity: str
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class ChannelData:
    """What one channel recorded.

    Attributes
    ----------
    name
        Name of the channel; that of a backward recording ends in ``_backward``.
    unit
        SI unit.
    quantity
        What was measured, in words for people.
    values
        float32; NaN where nothing was measured.
    axes
        One per dimension of `values`.
    """

    name: str
    unit: str
    quantity: str
    values: np.ndarray
    axes: tuple[Axis, ...]

    def __array__(self, dtype: "DTypeLike | None" = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype=dtype, copy=copy)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values."""
        return self.values.shape


@dataclass(frozen=True, eq=False, repr=False)
class Measurement(Mapping[str, ChannelData]):
    """Result of an acquisition: a mapping from channel names to their data.

    Attributes
    ----------
    request
        What was asked for.
    channels
        What was recorded.
    metadata
        Everything else that is known, as plain data: instrument, settings, seed, versions, times, state, warnings.
    """

    request: AcquisitionRequest
    channels: Mapping[str, ChannelData]
    metadata: Mapping[str, Any]

    def __getitem__(self, name: str) -> ChannelData:
        try:
            return self.channels[name]
        except KeyError:
            raise InvalidRequestError(f"no channel {name!r} was recorded: there is {', '.join(self)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.channels)

    def __len__(self) -> int:
        return len(self.channels)

    def __repr__(self) -> str:
        recorded = ", ".join(f"{data.name} {data.shape} {data.unit}" for data in self.values())
        return f"<{type(self).__name__} {self.metadata.get('id')}: {recorded}>"

    @property
    def complete(self) -> bool:
        """Whether everything that was asked for has been measured."""
        return self.metadata.get("state") == "done"

    def save(self, path: str | Path) -> Path:
        """Write an HDF5 file of the same layout as the instrument's own; never over an existing one.

        Raises
        ------
        StoreError
            When it cannot be written.
        """
        from twinscope.storage import store

        return store.save(self, Path(path))

    def export(self, path: str | Path, format: str | None = None) -> Path:
        """Write a file for other programs; never over an existing one.

        Parameters
        ----------
        path
            Of the new file.
        format
            "nsid" (HDF5, as :meth:`save`), "nxspm" (NeXus) or "gwy" (Gwyddion, needs the extra ``export``); unless
            given, the suffix tells: ``.h5`` or ``.nsid``, ``.nxs``, ``.gwy``.

        Raises
        ------
        InvalidRequestError
            When the format is none of these.
        MissingPackageError
            When a package is not installed that writes it.
        StoreError
            When it cannot be written.
        """
        from twinscope.storage import export

        return export.export(self, Path(path), format)

    def to_xarray(self) -> "xarray.Dataset":
        """Convert to an :class:`xarray.Dataset` with one variable per channel."""
        from twinscope import convert

        return convert.to_xarray(self)

    def to_sidpy(self, channel: str | None = None) -> "sidpy.Dataset":
        """Convert one channel (the first, unless named) to a :class:`sidpy.Dataset`."""
        from twinscope import convert

        return convert.to_sidpy(self, self._one(channel))

    def plot(self, channel: str | None = None, ax: "Axes | None" = None) -> "Axes":
        """Draw one channel (the first, unless named) with matplotlib; of a stack, the last layer."""
        from twinscope import plotting

        return plotting.plot(self._one(channel), ax)

    def _one(self, channel: str | None) -> ChannelData:
        return self[next(iter(self)) if channel is None else channel]


class Scan(Measurement):
    """An image, with axes (y, x), or a stack of them, with axes (height, y, x).

    x and y count along the fast and the slow axis of the frame so that its middle is where the frame's centre is;
    at the angle zero they are the coordinates of the sample.
    """

    request: ScanRequest


class Profile(Measurement):
    """Samples along a path, with axes (pass, position), or at separate points, with axes (position, pass)."""

    request: PathRequest


class Spectrum(Measurement):
    """Spectra at one or more positions, with axes (position, height) or (position, voltage)."""

    request: SpectroscopyRequest


def assemble(
    request: AcquisitionRequest, channels: tuple[Channel, ...], traces: np.ndarray, metadata: Mapping[str, Any]
) -> Scan | Profile | Spectrum:
    """Put traces, as they were measured, into the order of space.

    Parameters
    ----------
    request
        What was asked for.
    channels
        In the order of the request.
    traces
        Shape (traces, channels, samples), in the order of measurement.
    metadata
        For the result.
    """
    axes = axes_of(request)
    if not isinstance(request, ScanRequest):
        found = {c.name: ChannelData(c.name, c.unit, c.quantity, traces[:, i], axes) for i, c in enumerate(channels)}
        return (
            Profile(request, found, metadata)
            if isinstance(request, PathRequest)
            else Spectrum(request, found, metadata)
        )
    space = _in_space(request, traces)
    recorded = {}
    for d, direction in enumerate(request.directions):
        for c, channel in enumerate(channels):
            name = recorded_name(channel.name, direction)
            values = space[:, :, d, c] if request.heights is not None else space[0, :, d, c]
            recorded[name] = ChannelData(name, channel.unit, channel.quantity, values, axes)
    return Scan(request, recorded, metadata)


def disassemble(measurement: Measurement, channels: tuple[Channel, ...]) -> np.ndarray:
    """Undo :func:`assemble`: return the traces (traces, channels, samples) in the order of measurement."""
    request = measurement.request
    traces = np.empty((request.trace_count, len(channels), request.trace_length), np.float32)
    if not isinstance(request, ScanRequest):
        for c, channel in enumerate(channels):
            traces[:, c] = measurement[channel.name].values
        return traces
    space = _in_space(request, traces)
    for d, direction in enumerate(request.directions):
        for c, channel in enumerate(channels):
            space[:, :, d, c] = measurement[recorded_name(channel.name, direction)].values
    return traces


def _in_space(request: ScanRequest, traces: np.ndarray) -> np.ndarray:
    """Look at the traces of a scan as (layers, rows from the bottom, directions, channels, pixels), without a copy."""
    nx, ny = request.pixels
    space = traces.reshape(request.layers, ny, len(request.directions), -1, nx)
    return space[:, ::-1] if request.slow_direction == "down" else space


def axes_of(request: AcquisitionRequest) -> tuple[Axis, ...]:
    """Axes of the arrays that a request gives."""
    if isinstance(request, SpectroscopyRequest):
        name, unit, quantity = _SWEEPS[request.swept]
        return _counting("position", len(request.positions)), Axis(name, unit, quantity, request.sweep.values())
    if isinstance(request, PathRequest):
        axes = _counting("pass", request.passes), _counting("position", len(request.positions))
        return axes[::-1] if request.separate else axes
    along, across = request.offsets()
    center = request.frame.center
    lateral = (Axis("y", "m", "Slow axis", across + center[1]), Axis("x", "m", "Fast axis", along + center[0]))
    if request.heights is None:
        return lateral
    return Axis("height", "m", "Tip height", np.array(request.heights)), *lateral


def _counting(name: str, count: int) -> Axis:
    return Axis(name, "1", name.capitalize(), np.arange(count, dtype=float))


def recorded_name(channel: str, direction: str) -> str:
    """Name of what a channel records in a direction."""
    return channel if direction == "forward" else f"{channel}_{direction}"


def request_of(metadata: Mapping[str, Any]) -> AcquisitionRequest:
    """Rebuild the request from the metadata of its result."""
    return request_from_dict(metadata["kind"], metadata["request"])
