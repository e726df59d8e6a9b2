"""Lennard-Jones parameters of the elements.

The values are those of the reference probe-particle code ``ppafm`` 0.4.1 (``defaults/atomtypes.ini``), so that
images are comparable with the published ones. H..Cl, Ar, Br, I and Xe come from an OPLS/AMBER collection; the
metals carry Batsanov radii and a placeholder depth of 10 meV; the rows marked ``*`` are placeholders in both
columns, and a caller who cares should say so to the user (see :attr:`LennardJones.placeholder`).
"""

from dataclasses import dataclass

import numpy as np

# symbol, radius R_min/2 in angstrom, well depth in eV; in the order of the atomic numbers.
_TABLE = """
H 1.487 0.000681; He 1.4815 0.000945; Li 2 0.01; Be 2 0.01; B 2.08 0.003729; C 1.908 0.003729;
N 1.78 0.007372; O 1.6612 0.009106; F 1.75 0.002645; Ne 1.5435 0.003643; Na 2.77 0.01;
Mg 2.42 0.01; Al 2.4 0.01; Si 1.9 0.02549; P 2.1 0.008673; S 2 0.010841; Cl 1.948 0.011491;
Ar 1.8805 0.012341; K 3.02 0.01; Ca 2.78 0.01; Sc 2.62 0.01; Ti 2.44 0.01; V 2.27 0.01;
Cr 2.23 0.01; Mn 2.25 0.01; Fe 2.27 0.01; Co 2.25 0.01; Ni 2.23 0.01; Cu 2.23 0.01; Zn 2.24 0.01;
Ga 2.41 0.01; Ge 2.32 0.01; As 2.25 0.01; Se 2.18 0.01; Br 2.22 0.013876; Kr 2 0.01*; Rb 3.15 0.01;
Sr 2.94 0.01; Y 2.71 0.01; Zr 2.57 0.01; Nb 2.46 0.01; Mo 2.39 0.01; Tc 2.37 0.01; Ru 2.35 0.01;
Rh 2.32 0.01; Pd 2.35 0.01; Ag 2.37 0.01; Cd 2.37 0.01; In 2.53 0.01; Sn 2.46 0.01; Sb 2.41 0.01;
Te 2.36 0.01; I 2.35 0.017345; Xe 2.1815 0.024344; Cs 3.3 0.01; Ba 3.05 0.01; La 2.81 0.01;
Ce 2 0.01*; Pr 2 0.01*; Nd 2 0.01*; Pm 2 0.01*; Sm 2 0.01*; Eu 2 0.01*; Gd 2 0.01*; Tb 2 0.01*;
Dy 2 0.01*; Ho 2 0.01*; Er 2 0.01*; Tm 2 0.01*; Yb 2 0.01*; Lu 2 0.01*; Hf 2.52 0.01; Ta 2.42 0.01;
W 2.36 0.01; Re 2.35 0.01; Os 2.33 0.01; Ir 2.34 0.01; Pt 2.37 0.01; Au 2.41 0.01; Hg 2.25 0.01;
Tl 2.53 0.01; Pb 2.53 0.01; Bi 3.52 0.01; Po 2 0.01*; At 2 0.01*; Rn 2 0.01*; Fr 2 0.01*;
Ra 2 0.01*; Ac 2 0.01*; Th 2.75 0.01; Pa 2 0.01*; U 2.65 0.01; Np 2 0.01*; Pu 2 0.01*; Am 2 0.01*;
Cm 2 0.01*; Bk 2 0.01*; Cf 2 0.01*; Es 2 0.01*; Fm 2 0.01*; Md 2 0.01*; No 2 0.01*; Lr 2 0.01*;
Rf 2 0.01*; Db 2 0.01*; Sg 2 0.01*; Bh 2 0.01*; Hs 2 0.01*; Mt 2 0.01*; Ds 2 0.01*; Rg 2 0.01*;
Cn 2 0.01*; Nh 2 0.01*; Fl 2 0.01*; Mc 2 0.01*; Lv 2 0.01*; Ts 2 0.01*; Og 2 0.01*;
"""


@dataclass(frozen=True, slots=True)
class LennardJones:
    """Lennard-Jones parameters of one element.

    Attributes
    ----------
    symbol
        Chemical symbol.
    radius
        Half the distance of the pair minimum, R_min/2, in Å.
    depth
        Depth of the pair minimum, in eV.
    placeholder
        True where the source has no real values for the element.
    """

    symbol: str
    radius: float
    depth: float
    placeholder: bool


def _parse(entry: str) -> LennardJones:
    symbol, radius, depth = entry.split()
    return LennardJones(symbol, float(radius), float(depth.rstrip("*")), depth.endswith("*"))


ELEMENTS: tuple[LennardJones, ...] = tuple(_parse(entry) for entry in _TABLE.split(";") if entry.strip())
"""All known elements; ``ELEMENTS[Z - 1]`` is the one with atomic number Z."""

_NUMBER_OF = {element.symbol: number for number, element in enumerate(ELEMENTS, start=1)}


def atomic_number(element: int | str) -> int:
    """Return the atomic number of an element given as symbol or number.

    Raises
    ------
    ValueError
        When the element is not in the table.
    """
    if isinstance(element, str):
        number = _NUMBER_OF.get(element.strip().capitalize())
    else:
        number = int(element) if 1 <= int(element) <= len(ELEMENTS) else None
    if number is None:
        raise ValueError(
            f"unknown element {element!r}: expected a chemical symbol or an atomic number from 1 to {len(ELEMENTS)}"
        )
    return number


def placeholder_elements(numbers: np.ndarray) -> list[str]:
    """Symbols among `numbers` whose Lennard-Jones parameters are placeholders without physical meaning."""
    known = {ELEMENTS[atomic_number(int(number)) - 1] for number in numbers}
    return sorted(element.symbol for element in known if element.placeholder)
