"""SI units without prefixes."""

import re

# Base units, derived ones with a name of their own, and what is used for angles and numbers.
_UNITS = frozenset(
    (
        *("1", "m", "kg", "s", "A", "K", "mol", "cd", "rad", "sr", "deg", "°", "°C"),
        *(
            "Hz",
            "N",
            "Pa",
            "J",
            "W",
            "C",
            "V",
            "F",
            "Ω",
            "ohm",
            "S",
            "Wb",
            "T",
            "H",
            "lm",
            "lx",
            "Bq",
            "Gy",
            "Sv",
            "kat",
        ),
    )
)
_FACTOR = re.compile(r"([^\d^\-]+|1)(?:\^?-?\d+(?:\.5)?)?")


def is_si(unit: str) -> bool:
    """Whether a unit is one of the SI, or products, quotients and powers of some: "m/s", "V^2", "N*m^-1"."""
    return isinstance(unit, str) and all(_is_factor(factor) for factor in re.split(r"[/*· ]", unit))


def _is_factor(text: str) -> bool:
    match = _FACTOR.fullmatch(text)
    return match is not None and match[1].removeprefix("√") in _UNITS
