"""What the suite asks of an instrument: small requests that fit its capabilities, where the tip is safe."""

from dataclasses import replace
from typing import Any

import numpy as np

from twinscope.capabilities import Capabilities
from twinscope.conformance.settings import Settings
from twinscope.requests import CONSTANT_HEIGHT, PathRequest, ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.state import Reading

# Of the default frame: at most so wide (m), and this part of the range; not square, so that mixed-up axes show.
_WIDEST = 10e-9
_PART = 0.1
_ASPECT = 0.7
# Sweeps and changes of signals go over this part of the range.
_STEP = 0.01
_ENDLESS = 20_000


class Work:
    """Makes requests.

    Parameters
    ----------
    capabilities
        Of the instrument.
    settings
        What else is known of it.
    reading
        How the instrument was found.

    Attributes
    ----------
    center, size
        Of the frame, in m.
    height
        Where the tip is safe, in m.
    channels
        To be recorded.
    ramp
        Channels that record x and y, by "x" and "y"; empty when there are none.
    """

    def __init__(self, capabilities: Capabilities, settings: Settings, reading: Reading) -> None:
        self._capabilities = capabilities
        self._settings = settings
        self._found = reading
        limits = capabilities.limits
        x, y, z = (limits[name] for name in ("x", "y", "z"))
        width = min(_WIDEST, _PART * min(x.high - x.low, y.high - y.low))
        self.center = settings.center or ((x.low + x.high) / 2, (y.low + y.high) / 2)
        self.size = settings.size or (width, _ASPECT * width)
        self.height = z.low + 0.75 * (z.high - z.low) if settings.height is None else settings.height
        self.channels = settings.channels or tuple(channel.name for channel in capabilities.channels[:1])
        self.ramp = dict(settings.ramp or capabilities.settings.get("position_channels", {}))

    @property
    def all_channels(self) -> tuple[str, ...]:
        """Names of all channels."""
        return tuple(channel.name for channel in self._capabilities.channels)

    @property
    def z_mode(self) -> str:
        """Constant height where that is possible, or else the first z-mode."""
        modes = self._capabilities.scan_modes
        return CONSTANT_HEIGHT if CONSTANT_HEIGHT in modes else modes[0]

    @property
    def found(self) -> Reading:
        """How the instrument was found."""
        return self._found

    def offset(self, along: float, across: float = 0.0) -> tuple[float, float]:
        """Return the place (x, y), in m, that is so many widths and heights of the frame off its middle."""
        return self.center[0] + along * self.size[0], self.center[1] + across * self.size[1]

    # ------------------------------------------------------------------ acquisitions

    def scan(self, *, angle: float = 0.0, size: tuple[float, float] | None = None, **change: Any) -> ScanRequest:
        """Return a small scan."""
        request = ScanRequest(
            frame=ScanFrame(size=size or self.size, center=self.center, angle=angle),
            pixels=self._settings.pixels,
            channels=self.channels,
            line_time=self._settings.line_time,
            z_mode=self.z_mode,
            heights=self._heights(change),
        )
        return replace(request, **change)

    def long_scan(self) -> ScanRequest:
        """Return a scan that takes a minute of instrument time, with lines of 5 s."""
        return self.scan(pixels=(self._settings.pixels[0], 12), line_time=5.0)

    def endless_scan(self) -> ScanRequest:
        """Return a scan of more lines than also an accelerated simulator takes in a moment."""
        columns = self._settings.pixels[0]
        rows = min(_ENDLESS, self._capabilities.most_values // columns)
        return self.scan(pixels=(columns, rows), line_time=5.0)

    def path(self, positions: np.ndarray | None = None, **change: Any) -> PathRequest:
        """Return a path over positions (n, 2), in m; by default over the pixels of the small scan."""
        points = self.pixel_positions() if positions is None else positions
        request = PathRequest(
            positions=tuple(map(tuple, points.tolist())),
            channels=self.channels,
            point_time=self._settings.point_time,
            z_mode=self.z_mode,
            height=None if self._heights(change) is None else self.height,
        )
        return replace(request, **change)

    def spectroscopy(self, swept: str, points: int = 5, **change: Any) -> SpectroscopyRequest:
        """Return spectra at two positions."""
        request = SpectroscopyRequest(
            swept=swept,
            positions=(self.offset(-0.25), self.offset(0.25, 0.25)),
            sweep=self._sweep(swept, points),
            channels=self.channels,
            height=None if swept == "z" else self.height,
            point_time=self._settings.point_time,
        )
        return replace(request, **change)

    def pixel_positions(self) -> np.ndarray:
        """Return x and y of the pixels of the small scan, row by row from the bottom, in m, shape (n, 2)."""
        request = self.scan()
        return np.concatenate([np.stack(request.row_positions(row), axis=-1) for row in range(request.pixels[1])])

    # ------------------------------------------------------------------ signals

    def another(self, name: str) -> float:
        """Return a value for a signal that is not far from the one that was found, towards the middle of its range."""
        limits, present = self._capabilities.limits[name], self._found.signals[name]
        step = _STEP * (limits.high - limits.low)
        return present + (step if present < (limits.low + limits.high) / 2 else -step)

    # ------------------------------------------------------------------ inside

    def _heights(self, change: dict[str, Any]) -> tuple[float] | None:
        return (self.height,) if change.get("z_mode", self.z_mode) == CONSTANT_HEIGHT else None

    def _sweep(self, swept: str, points: int) -> Sweep:
        limits = self._capabilities.limits[swept]
        step = _STEP * (limits.high - limits.low)
        if swept == "z":
            # Towards the sample, down to where the tip is safe.
            return Sweep(start=min(self.height + step, limits.high), stop=self.height, points=points)
        if swept in self._found.signals:
            return Sweep(start=self._found.signals[swept], stop=self.another(swept), points=points)
        # What cannot be set besides, as in a recording, is as safe anywhere.
        middle = (limits.low + limits.high) / 2
        return Sweep(start=middle - 10 * step, stop=middle + 10 * step, points=points)
