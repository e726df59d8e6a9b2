"""Tips that are known by name."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from twinscope.errors import ConfigurationError
from twinscope.kernels import Tip, check_tip

TIPS: Mapping[str, Tip] = {
    # Carbon monoxide: the settings of the reference data of Oinonen et al., Comput. Phys. Commun. 305, 109341 (2024).
    "CO": Tip(),
    # Xenon: heavier, softer, slightly positive; the charge of 0.3 e that is often quoted makes it snap.
    "Xe": Tip("Xe", (0.0, 0.0, 4.0), (0.2, 0.2, 0.0, 20.0), ((0.05, 0.0),)),
    # Chlorine: stiffer and negative, the preset of ppafm 0.4.1.
    "Cl": Tip("Cl", (0.0, 0.0, 3.0), (0.5, 0.5, 0.0, 30.0), ((-0.3, 0.0),)),
    # Water that hangs by its oxygen, hydrogens down, and does not turn: the dipole of the free molecule, 1.855 D or
    # 0.386 e Å, with the spring of CO.
    "H2O": Tip("O", charges=((1.93, -0.1), (-1.93, 0.1))),
    # The apex of a bare copper tip, which does not bend.
    "Cu": Tip("Cu", charges=(), rigid=True),
}


def known_tips(own: Mapping[str, Any] | None) -> Mapping[str, Tip]:
    """Return all tips that are known by name: those of an option beside, or in the place of, :data:`TIPS`.

    Raises
    ------
    ConfigurationError
        When one of them is no tip.
    """
    mine = {str(name): tip_from_option(option, TIPS, f"probes.{name}") for name, option in (own or {}).items()}
    return {**TIPS, **mine}


def tip_from_option(option: str | Mapping[str, Any], known: Mapping[str, Tip], name: str = "tip") -> Tip:
    """Return a tip known by name, or one given as a mapping of the fields of :class:`~twinscope.kernels.Tip`.

    Parameters
    ----------
    option
        The one or the other.
    known
        By name.
    name
        Of the option.

    Raises
    ------
    ConfigurationError
        When there is no such tip, or the mapping is no tip.
    """
    if isinstance(option, str):
        named = {name.lower(): tip for name, tip in known.items()}
        if option.lower() not in named:
            raise ConfigurationError(
                f"{name} is {option!r}: expected {', '.join(known)}, or a mapping with {_field_names()}", name=name
            )
        return named[option.lower()]
    try:
        given = Tip(**option)
        tip = Tip(
            given.element,
            _numbers("rest", given.rest, 3),
            _numbers("stiffness", given.stiffness, 4),
            tuple(_numbers("charges", charge, 2) for charge in given.charges),
            None if given.lennard_jones is None else _numbers("lennard_jones", given.lennard_jones, 2),
            bool(given.rigid),
        )
        check_tip(tip)
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(f"{name} is {option!r}: expected {_field_names()} of a tip: {exc}", name=name) from exc
    return tip


def name_of(option: str | Mapping[str, Any], known: Mapping[str, Tip]) -> str | None:
    """Return the name of a tip as it stands among those known; None where the option gives numbers."""
    if not isinstance(option, str):
        return None
    return next(name for name in known if name.lower() == option.lower())


def _field_names() -> str:
    return ", ".join(field.name for field in fields(Tip))


def _numbers(name: str, values: Any, count: int) -> Any:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != count:
        raise ValueError(f"{name} is {values!r}: expected {count} numbers")
    return numbers
