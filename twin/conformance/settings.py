"""What the suite is told about a driver: the table ``[conformance]`` of the file with its options."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinscope.capabilities import FEATURES
from twinscope.drivers import registry
from twinscope.drivers.base import Driver
from twinscope.drivers.options import DriverOptions, read_options
from twinscope.errors import ConfigurationError

TABLE = "conformance"

_ALLOWED = tuple(feature for feature in FEATURES if feature != "oracle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(DriverOptions):
    """What the suite cannot guess, in SI units; what is not given comes from the capabilities.

    Attributes
    ----------
    center, size
        Of the frame that is scanned, in m. By default it is in the middle of the range of x and y, and at most 10 nm
        wide. It is rotated by any angle, so its corners must stay in the range.
    pixels
        Of the frame: two different numbers, as small as possible.
    height
        Where the tip is safe, and moved and scanned with the z-controller off, in m. By default at three quarters of
        the range of z.
    one_height
        Whether scans and paths at constant height are possible at `height` only, as in a recording.
    channels
        To be recorded where one is enough; by default the first. Geometry can only be seen in one that is not the same
        everywhere in the frame.
    ramp
        Which channels record the position of the tip, in m: ``{x = "...", y = "..."}``. By default what the driver
        says in ``capabilities().settings["position_channels"]``.
    tolerance
        How far data at the same place may differ: positions by this part of the width of the frame, values by this
        part of their range.
    z_tolerance
        How far z may jump when the z-controller is switched off, in m.
    line_time, point_time
        Of the acquisitions, in s.
    slowness
        How many times longer than asked for a line may take, with the way back and all overheads.
    patience
        On a computer that is busy, a stop may take so many times longer than 200 ms.
    settle
        After a stop the driver must stand still within this time, in s.
    timeout
        Any acquisition must be over within this time, in s.
    deterministic
        Whether two instances of a simulator with the same options give the same bytes.
    allow
        Which of the features "coarse_motion", "pulse", "tip_shaping" and "tip_exchange" may be tried. By default all of
        a simulator and none of a real instrument.
    growth
        By how many bytes the memory may grow while the soak test repeats itself.
    """

    center: tuple[float, float] | None = None
    size: tuple[float, float] | None = None
    pixels: tuple[int, int] = (4, 3)
    height: float | None = None
    one_height: bool = False
    channels: tuple[str, ...] = ()
    ramp: dict[str, str] = field(default_factory=dict)
    tolerance: float = 0.01
    z_tolerance: float = 1e-9
    line_time: float = 0.05
    point_time: float = 0.01
    slowness: float = 3.0
    patience: float = 2.0
    settle: float = 2.0
    timeout: float = 120.0
    deterministic: bool = True
    allow: tuple[str, ...] | None = None
    growth: float = 32e6

    def __post_init__(self) -> None:
        DriverOptions.__post_init__(self)
        if min(self.pixels) < 2 or self.pixels[0] == self.pixels[1]:
            raise ConfigurationError(f"pixels is {self.pixels}: expected two different numbers of at least 2")
        strange = sorted(set(self.allow or ()) - set(_ALLOWED))
        if strange:
            raise ConfigurationError(f"allow has {strange[0]!r}: expected some of {', '.join(_ALLOWED)}", name="allow")
        unknown = sorted(set(self.ramp) - {"x", "y"})
        if unknown:
            raise ConfigurationError(f"ramp has the key {unknown[0]!r}: expected x and y", name="ramp")


@dataclass(frozen=True, slots=True)
class Subject:
    """The driver under test.

    Attributes
    ----------
    name
        As it was given.
    cls
        Its class.
    options
        Its options, as keywords.
    settings
        What else is known of it.
    """

    name: str
    cls: type[Driver]
    options: Mapping[str, Any]
    settings: Settings

    @classmethod
    def load(cls, name: str, config: Path | None) -> "Subject":
        """Find a driver and read its file.

        Raises
        ------
        ConfigurationError, MissingPackageError
            When there is no such driver, or something in the file is wrong.
        """
        options = {} if config is None else read_options(config)
        table = options.pop(TABLE, {})
        if not isinstance(table, dict):
            raise ConfigurationError(f"{TABLE} is {table!r}: expected a table, [{TABLE}]", name=TABLE)
        try:
            settings = Settings.from_keywords(table)
        except ConfigurationError as exc:
            raise ConfigurationError(f"in [{TABLE}]: {exc}") from exc
        return cls(name, registry.load(name), options, settings)

    def make(self) -> Driver:
        """Make the driver, which is not open yet."""
        return self.cls(**self.options)
