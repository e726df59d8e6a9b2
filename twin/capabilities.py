"""What an instrument can do, and within which limits."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from twinscope.errors import ConfigurationError, InvalidRequestError, OutOfRangeError, UnknownChannelError
from twinscope.requests import (
    CONSTANT_HEIGHT,
    AcquisitionRequest,
    PathRequest,
    ScanRequest,
    SpectroscopyRequest,
    setpoint_of,
)

BYTES_PER_VALUE = 4
"""Recorded values are float32."""

ACQUISITIONS = (ScanRequest.kind, PathRequest.kind, SpectroscopyRequest.kind)
"""Kinds of acquisitions."""

FEATURES = ("coarse_motion", "pulse", "tip_shaping", "tip_exchange", "oracle")
"""What an instrument may have beyond signals, moves and acquisitions."""

RESERVED_NAMES = ("x", "y", "height", "position", "pass", "voltage")
"""Names of axes: files and other packages keep axes and channels side by side, so no channel may have one."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A signal that can be recorded.

    Attributes
    ----------
    name
        Its name in requests and data.
    unit
        SI unit; "1" for a number without.
    quantity
        What is measured, in words for people.
    """

    name: str
    unit: str
    quantity: str

    def __post_init__(self) -> None:
        if self.name in RESERVED_NAMES or not self.name.isidentifier():
            raise ConfigurationError(
                f"the channel name {self.name!r} is not allowed: expected an identifier that is none of"
                f" {', '.join(RESERVED_NAMES)}"
            )


@dataclass(frozen=True, slots=True)
class Limits:
    """The range of a signal, both ends allowed, in its unit."""

    low: float
    high: float
    unit: str

    def check(self, name: str, value: float) -> None:
        """Raise :class:`OutOfRangeError` when `value` is outside."""
        if not self.low <= value <= self.high:
            unit = "" if self.unit == "1" else f" {self.unit}"
            raise OutOfRangeError(
                f"{name} = {value:.6g}{unit} is outside its range of {self.low:.6g} to {self.high:.6g}{unit}: it was"
                " not clamped, give another value",
                name=name,
                value=value,
                low=self.low,
                high=self.high,
            )


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an instrument can do.

    Attributes
    ----------
    instrument
        Name for people.
    driver, driver_version
        What drives it.
    simulated
        True for a digital twin.
    channels
        All channels that can be recorded.
    signals
        What can be read at any moment, besides the position.
    limits
        Range of what can be set: x, y and z, in m, and each signal that is not only for reading. What a feature takes
        has its range here, too: pulse_voltage, pulse_duration, tip_shaping_depth, tip_shaping_voltage, coarse_steps.
    features
        Which of :data:`FEATURES` it has.
    acquisitions
        Which of :data:`ACQUISITIONS` it can do.
    probes
        What can be put at the end of the tip where it has the feature "tip_exchange": "CO", "Xe", ...
    scan_modes
        Allowed values of :attr:`ScanRequest.z_mode`.
    sweeps
        What a spectroscopy can sweep.
    largest_acquisition
        Bytes of data that one acquisition may have.
    settings
        How the instrument is set up: oscillation amplitude, tip, sample, seed, ... as plain data.
    """

    instrument: str
    driver: str
    driver_version: str
    simulated: bool
    channels: tuple[Channel, ...]
    limits: Mapping[str, Limits]
    scan_modes: tuple[str, ...]
    sweeps: tuple[str, ...]
    largest_acquisition: int
    settings: Mapping[str, Any]
    signals: tuple[Channel, ...] = ()
    features: tuple[str, ...] = ()
    acquisitions: tuple[str, ...] = ACQUISITIONS
    probes: tuple[str, ...] = ()

    def channel(self, name: str) -> Channel:
        """Return the channel with this name.

        Raises
        ------
        UnknownChannelError
            When there is none.
        """
        for channel in self.channels:
            if channel.name == name:
                return channel
        known = ", ".join(channel.name for channel in self.channels)
        raise UnknownChannelError(f"unknown channel {name!r}: this instrument has {known}", name=name)

    @property
    def settable(self) -> tuple[str, ...]:
        """Names of the signals that can be set."""
        return tuple(signal.name for signal in self.signals if signal.name in self.limits)

    @property
    def feedback_modes(self) -> tuple[str, ...]:
        """What the z-controller can hold constant."""
        return tuple(mode for mode in self.scan_modes if mode != CONSTANT_HEIGHT)

    @property
    def traits(self) -> tuple[str, ...]:
        """One word for each thing that it can do: acquisitions, "sweep_z", "constant_current", features."""
        sweeps = tuple(f"sweep_{swept}" for swept in self.sweeps if SpectroscopyRequest.kind in self.acquisitions)
        return (*self.acquisitions, *sweeps, *self.feedback_modes, *self.features)

    @property
    def most_values(self) -> int:
        """How many values one acquisition may record, of all channels together."""
        return self.largest_acquisition // BYTES_PER_VALUE

    def limits_of(self, name: str) -> Limits:
        """Return the limits of what a feature takes.

        Raises
        ------
        ConfigurationError
            When the driver has forgotten them.
        """
        if name not in self.limits:
            raise ConfigurationError(
                f"the driver {self.driver!r} gives no limits of {name}: add them to its capabilities, or leave out the"
                " feature that takes it",
                name=name,
            )
        return self.limits[name]

    def check_position(self, **position: float) -> None:
        """Raise :class:`OutOfRangeError` when x, y or z is outside its limits."""
        for name, value in position.items():
            self.limits[name].check(name, value)

    def check_signal(self, name: str, value: float) -> None:
        """Raise the error that fits when the signal cannot be set to `value`."""
        if name not in self.settable:
            known = ", ".join(self.settable) or "none"
            raise InvalidRequestError(f"the signal {name!r} cannot be set: this instrument has {known}", name=name)
        self.limits[name].check(name, value)

    def check_feature(self, feature: str, **values: float) -> None:
        """Raise the error that fits when the instrument has no such feature, or a value of it is out of range."""
        if feature not in self.features:
            known = ", ".join(self.features) or "none"
            raise InvalidRequestError(f"this instrument has no {feature}: it has {known}", name=feature)
        for name, value in values.items():
            self.limits_of(name).check(name, value)

    def check_probe(self, probe: str) -> None:
        """Raise :class:`InvalidRequestError` when this cannot be put at the end of the tip."""
        self.check_feature("tip_exchange")
        if probe not in self.probes:
            known = ", ".join(self.probes) or "nothing"
            raise InvalidRequestError(
                f"probe is {probe!r}: this instrument can put {known} at the end of its tip", name="probe"
            )

    def check_feedback(self, mode: str) -> None:
        """Raise :class:`InvalidRequestError` when the z-controller cannot hold constant what the mode says."""
        if mode not in self.feedback_modes:
            known = ", ".join(self.feedback_modes) or "no z-controller"
            raise InvalidRequestError(f"the feedback mode is {mode!r}: this instrument has {known}", name="feedback")

    def check_request(self, request: AcquisitionRequest) -> None:
        """Raise the error that fits when this instrument cannot carry out `request`; nothing is moved for that."""
        if request.kind not in self.acquisitions:
            known = ", ".join(self.acquisitions) or "none"
            raise InvalidRequestError(f"a {request.kind} was asked for: this instrument has {known}", name="kind")
        for name in request.channels:
            self.channel(name)
        if isinstance(request, ScanRequest):
            self._check_scan(request)
        elif isinstance(request, PathRequest):
            self._check_path(request)
        else:
            self._check_spectroscopy(request)
        size = request.trace_count * request.trace_length * len(request.channels) * BYTES_PER_VALUE
        if size > self.largest_acquisition:
            raise OutOfRangeError(
                f"the data would take {size / 1e9:.3g} GB, this instrument records at most"
                f" {self.largest_acquisition / 1e9:.3g} GB at once: reduce pixels, heights, points or channels",
                name="size",
                value=size,
                high=self.largest_acquisition,
            )

    def _check_scan(self, request: ScanRequest) -> None:
        self._check_z_mode(request.z_mode, request.setpoint)
        for x, y in request.frame.corners().tolist():
            for name, value in (("x", x), ("y", y)):
                self.limits[name].check(f"frame corner {name}", value)
        for height in request.heights or ():
            self.limits["z"].check("height", height)

    def _check_path(self, request: PathRequest) -> None:
        self._check_z_mode(request.z_mode, request.setpoint)
        for x, y in request.positions:
            self.check_position(x=x, y=y)
        if request.height is not None:
            self.limits["z"].check("height", request.height)
            self.limits["z"].check("height + lift", request.height + request.lift)

    def _check_spectroscopy(self, request: SpectroscopyRequest) -> None:
        if request.swept not in self.sweeps:
            raise InvalidRequestError(f"swept is {request.swept!r}: this instrument has {', '.join(self.sweeps)}")
        for x, y in request.positions:
            self.check_position(x=x, y=y)
        if request.height is not None:
            self.limits["z"].check("height", request.height)
        for end in (request.sweep.start, request.sweep.stop):
            self.limits[request.swept].check(f"sweep of {request.swept}", end)

    def _check_z_mode(self, z_mode: str, setpoint: float | None) -> None:
        if z_mode not in self.scan_modes:
            raise InvalidRequestError(f"z_mode is {z_mode!r}: this instrument has {', '.join(self.scan_modes)}")
        if setpoint is not None:
            self.check_signal(setpoint_of(z_mode), setpoint)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        data = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Capabilities":
        """Build from :meth:`to_dict`."""
        values = dict(data)
        values["channels"] = tuple(Channel(**channel) for channel in values["channels"])
        values["limits"] = {name: Limits(**limits) for name, limits in values["limits"].items()}
        values["signals"] = tuple(Channel(**signal) for signal in values["signals"])
        for name in ("scan_modes", "sweeps", "features", "acquisitions", "probes"):
            values[name] = tuple(values[name])
        return cls(**values)
