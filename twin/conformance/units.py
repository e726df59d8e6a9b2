"""SI units without prefixes."""

import re

_BASE = "m|kg|s|A|K|mol|cd"
_DERIVED = "Hz|N|Pa|J|W|C|V|F|Ω|ohm|S|Wb|T|H|lm|lx|Bq|Gy|Sv|kat|°C"
# Numbers have no unit, and angles more than one.
_OTHERS = "1|rad|sr|deg|°"
_FACTOR = re.compile(rf"√?({_BASE}|{_DERIVED}|{_OTHERS})(\^?-?\d+(\.5)?)?")


def is_si(unit: str) -> bool:
    """Whether a unit is one of the SI, or products, quotients and powers of some: "m/s", "V^2", "N*m^-1"."""
    return isinstance(unit, str) and all(_FACTOR.fullmatch(factor) for factor in re.split(r"[/*· ]", unit))
