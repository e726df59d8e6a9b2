"""What a replayed instrument can do, for its capabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twinscope._version import __version__
from twinscope.capabilities import Capabilities, Channel, Limits
from twinscope.drivers.common.realism import Realism
from twinscope.drivers.replay.head import NEAR, RECORDED
from twinscope.drivers.replay.images import Images
from twinscope.drivers.replay.options import ReplayOptions
from twinscope.drivers.replay.overlay import APPLIED
from twinscope.drivers.replay.recording import Recording
from twinscope.drivers.replay.sampling import EDGE
from twinscope.drivers.replay.spectra import Spectra
from twinscope.errors import ConfigurationError
from twinscope.requests import CONSTANT_HEIGHT, PathRequest, ScanRequest, SpectroscopyRequest


@dataclass(frozen=True)
class Extent:
    """The rectangle of the sample that an instrument can go to, in m."""

    low: tuple[float, float]
    high: tuple[float, float]

    @property
    def reach(self) -> float:
        """Half of its longer side."""
        return float(max(np.subtract(self.high, self.low))) / 2


def extent_of(images: Images, spectra: Spectra, options: ReplayOptions) -> Extent:
    """Return the smallest rectangle around everything, and with outside="nan" the margin around it."""
    corners = np.concatenate([*(area.frame.corners() for area in images.areas), spectra.corners])
    low, high = corners.min(axis=0), corners.max(axis=0)
    # Whoever asks for the whole recording must not be refused for a last bit.
    margin = EDGE * max(high - low)
    if options.outside == "nan":
        margin = max(high - low) if options.margin is None else options.margin
    return Extent(tuple((low - margin).tolist()), tuple((high + margin).tolist()))


def all_channels(images: Images, spectra: Spectra) -> tuple[Channel, ...]:
    """Return the channels of images and then of spectra, each name once.

    Raises
    ------
    ConfigurationError
        When one name has two units.
    """
    for name, channel in spectra.channels.items():
        if images.channels.get(name, channel).unit != channel.unit:
            raise ConfigurationError(
                f"the channel {name} is in {images.channels[name].unit} in images and in {channel.unit} in spectra: the"
                " files do not belong together, give one of them",
                name="file",
            )
    return tuple({**spectra.channels, **images.channels}.values())


def describe(
    driver: str,
    options: ReplayOptions,
    recordings: Sequence[Recording],
    images: Images,
    spectra: Spectra,
    details: Mapping[str, Any],
) -> Capabilities:
    """Return the capabilities of a driver that replays recordings."""
    extent, ranges = extent_of(images, spectra, options), spectra.ranges
    lowest, highest = ranges.get("z", (RECORDED, RECORDED))
    # Where nothing is known, nobody may go, but for a withdrawal.
    above = RECORDED if options.outside == "refuse" else options.withdrawn_height
    limits = {
        "x": Limits(extent.low[0], extent.high[0], "m"),
        "y": Limits(extent.low[1], extent.high[1], "m"),
        "z": Limits(min(lowest, RECORDED - NEAR), max(highest, RECORDED + NEAR, above), "m"),
        "speed": Limits(1e-12, max(options.lateral_speed, options.vertical_speed), "m/s"),
    }
    if "bias" in ranges:
        limits["bias"] = Limits(*ranges["bias"], "V")
    kinds = (ScanRequest.kind, PathRequest.kind) if images.areas else ()
    return Capabilities(
        instrument=f"replay of {', '.join(recording.title for recording in recordings)}",
        driver=driver,
        driver_version=__version__,
        simulated=True,
        channels=all_channels(images, spectra),
        limits=limits,
        scan_modes=(CONSTANT_HEIGHT,),
        sweeps=tuple(ranges),
        largest_acquisition=options.largest_acquisition,
        settings=_settings(options, recordings, images, spectra) | dict(details),
        signals=tuple(images.channels.values()),
        acquisitions=(*kinds, *((SpectroscopyRequest.kind,) if ranges else ())),
    )


def details_of(topography: str | None, realism: Realism) -> dict[str, Any]:
    """Return what the driver found out by itself, as plain data."""
    everything = realism.to_dict()
    return {"topography": topography, "realism": {name: everything[name] for name in APPLIED}}


def _settings(
    options: ReplayOptions, recordings: Sequence[Recording], images: Images, spectra: Spectra
) -> dict[str, Any]:
    """Everything that data depend on, as plain data."""
    given = {name: _plain(value) for name, value in asdict(options).items()}
    return given | {
        "file": [recording.source.name for recording in recordings],
        "sha256": [recording.sha256 for recording in recordings],
        "format": [recording.format for recording in recordings],
        "frames": [area.frame.to_dict() for area in images.areas],
        "image_channels": list(images.channels),
        "spectrum_channels": list(spectra.channels),
        "warnings": [*(warning for recording in recordings for warning in recording.warnings), *spectra.warnings],
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
