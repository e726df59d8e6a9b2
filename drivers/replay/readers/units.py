"""Units as instruments write them, brought to SI."""

import re
import unicodedata
from dataclasses import dataclass

# Units without a prefix: their name in SI and their factor. "deg" stays, as everywhere in this package.
_PLAIN = {
    **{name: (name, 1.0) for name in ("m", "kg", "s", "A", "K", "mol", "cd", "V", "Hz", "N", "J", "W", "Pa", "C", "F")},
    **{name: (name, 1.0) for name in ("S", "T", "H", "Ohm", "eV", "rad", "deg", "dB")},
    **dict.fromkeys(("Ω", "ohm", "ohms"), ("Ohm", 1.0)),
    **dict.fromkeys(("Å", "Ang", "ang", "Angstrom", "angstrom"), ("m", 1e-10)),
    **dict.fromkeys(("°", "degree", "degrees", "degs"), ("deg", 1.0)),
    **dict.fromkeys(("1", "a.u.", "a. u.", "arb", "arb.", "arb.units", "au", "counts", "count"), ("1", 1.0)),
    **dict.fromkeys(("Volt", "Volts"), ("V", 1.0)),
    **dict.fromkeys(("Amp", "Amps"), ("A", 1.0)),
    "g": ("kg", 1e-3),
    "%": ("1", 1e-2),
    "sec": ("s", 1.0),
    "min": ("s", 60.0),
}
# Unicode has two letters for micro; both become the Greek one.
_POWERS = {"a": -18, "f": -15, "p": -12, "n": -9, "u": -6, "μ": -6, "m": -3, "c": -2, "d": -1, "k": 3, "M": 6, "G": 9}
# A factor of a compound: what it is, and its exponent.
_FACTOR = re.compile(r"(?P<symbol>[^\d\s^*/·-][^\s^*/·]*?|1(?!\d))(?:(?:\^|\*\*)?(?P<power>[+-]?\d+(?:\.\d+)?))?")


@dataclass(frozen=True, slots=True)
class SiUnit:
    """What a unit is in SI: one of the unit is `factor` of `name`.

    Attributes
    ----------
    name
        "1" for a number without a unit.
    factor
        By which values are multiplied.
    known
        False when the unit is not understood; then it is left as it is.
    """

    name: str
    factor: float = 1.0
    known: bool = True


def si_unit(text: str) -> SiUnit:
    """Return what a unit is in SI.

    Parameters
    ----------
    text
        As instruments write it: "nm", "pA", "µm", "Å", "°", "m/V", "nA V^-1", "a.u.", or nothing at all.
    """
    text = unicodedata.normalize("NFKC", text).strip().strip("()[]").strip()
    if not text:
        return SiUnit("1")
    plain = _simple(text)
    if plain is not None:
        return plain
    powers: dict[str, float] = {}
    factor = 1.0
    for part, sign in _parts(text):
        matched = _FACTOR.fullmatch(part)
        unit = matched and _simple(matched["symbol"])
        if not matched or unit is None:
            return SiUnit(text, known=False)
        power = sign * float(matched["power"] or 1)
        factor *= unit.factor**power if abs(power) <= 4 else 0.0
        if unit.name != "1":
            powers[unit.name] = powers.get(unit.name, 0.0) + power
    return SiUnit(_written(powers), _rounded(factor)) if factor else SiUnit(text, known=False)


def _simple(symbol: str) -> SiUnit | None:
    if symbol in _PLAIN:
        return SiUnit(*_PLAIN[symbol])
    unit = _PLAIN.get(symbol[1:])
    if symbol[:1] not in _POWERS or unit is None or unit[0] == "1":
        return None
    return SiUnit(unit[0], _rounded(unit[1] * 10.0 ** _POWERS[symbol[0]]))


def _rounded(factor: float) -> float:
    """Take away what multiplying has added: 1 / 1e-9 is not quite 1e9."""
    return float(f"{factor:.14g}")


def _parts(text: str) -> list[tuple[str, int]]:
    """Split a compound into its factors, with -1 for those that divide."""
    # "**" is a power, a single "*" a product.
    return [
        (part, -1 if index else 1)
        for index, piece in enumerate(text.split("/"))
        for part in re.split(r"\s+|·|(?<!\*)\*(?!\*)", piece.strip())
    ]


def _written(powers: dict[str, float]) -> str:
    above = [name + _exponent(power) for name, power in powers.items() if power > 0]
    below = [name + _exponent(-power) for name, power in powers.items() if power < 0]
    return "/".join(["*".join(above) or "1", *below])


def _exponent(power: float) -> str:
    return "" if power == 1 else f"^{power:g}"
