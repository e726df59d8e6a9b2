"""Options of the replay driver."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from twinscope.drivers.options import DriverOptions
from twinscope.drivers.replay.feedback import Feedback
from twinscope.drivers.replay.sampling import Interpolation
from twinscope.drivers.replay.tip import TipShape
from twinscope.errors import ConfigurationError, InvalidRequestError

_POSITIVE = ("lateral_speed", "vertical_speed", "withdrawn_height", "largest_file", "largest_acquisition")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions(DriverOptions):
    """Which recordings are replayed, and how, in SI units.

    Attributes
    ----------
    file
        A recording, a list of them, or a folder of them, which are taken in the order of their names.
    format
        Name of the format of the files; None to find out.
    scale
        Keywords for the reader of files that do not say how large they are: plain images.
    outside
        What is measured beyond the recording: "refuse" does not go there, "nan" gives NaN.
    margin
        With "nan": how far beyond the recording x and y may go, in m; None for its size.
    interpolation
        Between recorded pixels: "nearest", "linear" or "cubic".
    spectra
        Which spectrum is measured at a position: the "nearest" recorded one, or one "linear" between those around it.
    series
        What comes after the last image of a time series: "loop" begins again, "hold" keeps it.
    series_interval
        Seconds that each image of a time series is there; None for what the files say.
    topography
        Name of the channel that tip, feedback, tilt and vertical drift act on; None for the first in m that is called
        height, topography or z.
    tip
        A mapping of the fields of :class:`~twinscope.drivers.replay.tip.TipShape`; None for the tip of the recording.
    feedback
        A mapping of the fields of :class:`~twinscope.drivers.replay.feedback.Feedback`; None for that of the recording.
    realism
        What is imperfect besides: a profile, or a mapping of the fields of
        :class:`~twinscope.drivers.common.realism.Realism`, with "profile" for what it starts from.
    noise
        Standard deviation of white noise on each channel that is named, in its unit.
    seed
        Of all randomness.
    clock
        "realtime", "accelerated" (does not wait), or how many times faster than real time.
    lateral_speed, vertical_speed
        Of moves, in m/s.
    withdrawn_height
        Of the tip above the recording after a withdrawal, in m.
    largest_file
        Bytes that a file may have.
    largest_acquisition
        Bytes of data in one acquisition.
    """

    file: Path | tuple[Path, ...]
    format: str | None = None
    scale: Mapping[str, Any] | None = None
    outside: Literal["refuse", "nan"] = "refuse"
    margin: float | None = None
    interpolation: Interpolation = "linear"
    spectra: Literal["nearest", "linear"] = "nearest"
    series: Literal["loop", "hold"] = "loop"
    series_interval: float | None = None
    topography: str | None = None
    tip: Mapping[str, Any] | None = None
    feedback: Mapping[str, Any] | None = None
    realism: str | Mapping[str, Any] = "clean"
    noise: Mapping[str, float] | None = None
    seed: int = 0
    clock: str | float = "accelerated"
    lateral_speed: float = 1e-5
    vertical_speed: float = 1e-6
    withdrawn_height: float = 1e-6
    largest_file: int = 2**30
    largest_acquisition: int = 2**30

    def __post_init__(self) -> None:
        DriverOptions.__post_init__(self)
        for name in _POSITIVE:
            _check(name, getattr(self, name), above=0)
        for name in ("margin", "series_interval"):
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), above=0)
        if self.seed < 0:
            raise ConfigurationError(f"the option seed is {self.seed}: expected zero or above", name="seed")
        if self.margin is not None and self.outside == "refuse":
            raise ConfigurationError(
                f"margin is {self.margin} m but nothing beyond the recording is allowed: give outside='nan', too",
                name="margin",
            )
        for name, deviation in (self.noise or {}).items():
            if isinstance(deviation, bool) or not isinstance(deviation, int | float) or not 0 <= deviation < math.inf:
                raise ConfigurationError(
                    f"the option noise has {deviation!r} for {name}: expected a number of zero or above", name="noise"
                )

    @property
    def tip_shape(self) -> TipShape | None:
        """The tip that takes the place of that of the recording."""
        return None if self.tip is None else _described("tip", self.tip, TipShape)

    @property
    def loop(self) -> Feedback | None:
        """The z-controller that follows the recording."""
        return None if self.feedback is None else _described("feedback", self.feedback, Feedback)


def _check(name: str, value: float, above: float) -> None:
    if not value > above:
        raise ConfigurationError(f"the option {name} is {value!r}: expected a number above {above}", name=name)


def _described(name: str, fields: Mapping[str, Any], cls: Any) -> Any:
    try:
        return cls.from_dict(fields)
    except InvalidRequestError as exc:
        raise ConfigurationError(f"the option {name}: {exc.message}", name=name) from exc
