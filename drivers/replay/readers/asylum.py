"""What the channels of Asylum Research instruments are, which their files say wrongly or not at all."""

import re
from collections.abc import Mapping
from typing import Any

from twinscope.drivers.replay.readers.names import split_direction

# The unit of a channel by the first word of its name. Files have one unit for all channels.
_UNITS = {
    "Height": "m",
    "ZSensor": "m",
    "Amplitude": "m",
    "Deflection": "m",
    "Lateral": "V",
    "Phase": "deg",
    "Frequency": "Hz",
    "Current": "A",
    "UserIn": "V",
    "Potential": "V",
    "Bias": "V",
    "Count": "1",
}
_CHANNEL = re.compile(r"(?:Nap)?(?P<kind>[A-Za-z]+?)\d*")


def unit_of(name: str) -> str | None:
    """Return the unit of a channel such as "NapPhase2Retrace"; None when it is no channel of these instruments."""
    base, direction = split_direction(name)
    matched = _CHANNEL.fullmatch(base)
    return _UNITS.get(matched["kind"]) if matched and direction else None


def line_time(settings: Mapping[str, Any]) -> float | None:
    """Seconds per line and direction: the scan rate counts lines there and back."""
    try:
        rate = float(settings.get("ScanRate", 0.0))
    except (TypeError, ValueError):
        return None
    return 0.5 / rate if 0 < rate < float("inf") else None
