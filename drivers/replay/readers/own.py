"""Files of this package: those of an instrument, and what :meth:`twinscope.Scan.save` writes."""

from pathlib import Path

import numpy as np

from twinscope.capabilities import Channel
from twinscope.drivers.replay.readers.contents import Contents, check_size, damaged, file_size, foreign
from twinscope.drivers.replay.readers.options import ReadingOptions
from twinscope.drivers.replay.recording import RecordedImage, RecordedSpectra
from twinscope.requests import request_from_dict
from twinscope.results import Measurement, Profile, Scan, Spectrum, recorded_name
from twinscope.storage.store import describe, load


def read(path: Path, options: ReadingOptions) -> Contents:
    """Read a scan, spectra or a profile; the data are compared with their checksums.

    The layers of a stack become frames of a time series, at the times at which a scan takes them. A profile becomes
    spectra whose positions are those of the path: what is swept is the pass. `options` are not used.
    """
    del options
    measurement = _load(path)
    contents = Contents(metadata=dict(measurement.metadata))
    if not measurement.complete:
        contents.warn("the acquisition was not finished: what was not measured is NaN")
    if isinstance(measurement, Scan):
        _add_scan(contents, measurement)
    elif isinstance(measurement, Spectrum):
        request = measurement.request
        data = np.stack([measurement[channel.name].values for channel in _channels(measurement)], axis=1)
        unit = next(iter(measurement.values())).axes[1].unit
        _add_spectra(contents, measurement, (request.swept, unit, request.sweep.values()), data, request.positions)
    else:
        _add_profile(contents, measurement)
    return contents


def _load(path: Path) -> Scan | Profile | Spectrum:
    """Load a measurement, after a look at how large it says that it is."""
    size = file_size(path)
    with foreign(path, "twinscope"):
        metadata, _ = describe(path)
        request = request_from_dict(metadata["kind"], metadata["request"])
        shape = (request.trace_count, len(metadata["channels"]), request.trace_length)
        check_size(path, shape, 4)
        if np.prod(shape) * 4 > size:
            raise damaged(path, f"it says that it holds traces of the shape {shape}, but has only {size} bytes")
        return load(path)


def _channels(measurement: Measurement) -> tuple[Channel, ...]:
    return tuple(Channel(**channel) for channel in measurement.metadata["channels"])


def _add_scan(contents: Contents, scan: Scan) -> None:
    request = scan.request
    if request.heights is not None and len(request.heights) > 1:
        contents.warn("the layers of the stack, each at its own height, are taken for a time series")
    layer_time = request.line_time * request.pixels[1] * len(request.directions)
    for direction in request.directions:
        for channel in _channels(scan):
            values = scan[recorded_name(channel.name, direction)].values
            for layer, image in enumerate(values.reshape(request.layers, *values.shape[-2:])):
                contents.images.append(
                    RecordedImage(
                        name=channel.name,
                        unit=channel.unit,
                        quantity=channel.quantity,
                        data=image,
                        frame=request.frame,
                        direction=direction,
                        time=layer * layer_time,
                        line_time=request.line_time,
                    )
                )


def _add_profile(contents: Contents, profile: Profile) -> None:
    request = profile.request
    # (passes, positions) of a path, (positions, passes) of separate points.
    traces = [profile[channel.name].values for channel in _channels(profile)]
    data = np.stack([values if request.separate else values.T for values in traces], axis=1)
    passes = np.arange(request.passes, dtype=float)
    _add_spectra(contents, profile, ("pass", "1", passes), data, request.positions)


def _add_spectra(
    contents: Contents,
    measurement: Measurement,
    swept: tuple[str, str, np.ndarray],
    data: np.ndarray,
    positions: tuple[tuple[float, float], ...],
) -> None:
    name, unit, values = swept
    contents.spectra.append(
        RecordedSpectra(
            channels=_channels(measurement),
            swept=name,
            swept_unit=unit,
            values=values,
            data=data,
            positions=np.array(positions),
        )
    )
