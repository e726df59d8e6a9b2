"""What each command of the Nanonis protocol does here."""

from collections.abc import Mapping

from twinscope.gateway.call import Handler
from twinscope.gateway.modules import (
    bias,
    current,
    follow_me,
    scan,
    signals,
    util,
    z_controller,
)

_MODULES = (bias, current, follow_me, scan, signals, util, z_controller)

HANDLERS: Mapping[str, Handler] = {name: handler for module in _MODULES for name, handler in module.HANDLERS.items()}
"""Who carries out a command, by its name."""

# Why there is nothing of a module.
_ABSENT: Mapping[str, str] = {
    "AtomTrack": "the instrument has no atom tracking",
    "LockIn": "the instrument has no lock-in amplifier",
    "UserOut": "the instrument has no user outputs",
    "DigLines": "the instrument has no digital lines",
}


def why_not(name: str) -> str:
    """Say why a command is not carried out."""
    reason = _ABSENT.get(name.partition(".")[0], "the gateway of twinscope has nothing like it")
    return f"{name} is not supported: {reason}"
