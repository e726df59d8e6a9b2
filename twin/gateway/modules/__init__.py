"""What each command of the Nanonis protocol does here, one module for each of Nanonis."""

from collections.abc import Mapping

from twinscope.gateway.call import Handler
from twinscope.gateway.modules import (
    atom_tracking,
    auto_approach,
    bias,
    bias_spectroscopy,
    current,
    follow_me,
    general_sweep,
    lock_in,
    marks,
    motor,
    oscilloscope,
    pattern,
    piezo,
    pll,
    safe_tip,
    scan,
    signals,
    tip_recorder,
    tip_shaper,
    util,
    z_controller,
    z_spectroscopy,
)

_HANDLERS: tuple[Mapping[str, Handler], ...] = (
    atom_tracking.HANDLERS,
    auto_approach.HANDLERS,
    bias.HANDLERS,
    bias_spectroscopy.HANDLERS,
    current.HANDLERS,
    follow_me.HANDLERS,
    general_sweep.HANDLERS,
    lock_in.HANDLERS,
    marks.HANDLERS,
    motor.HANDLERS,
    oscilloscope.HANDLERS,
    pattern.HANDLERS,
    piezo.HANDLERS,
    pll.HANDLERS,
    safe_tip.HANDLERS,
    scan.HANDLERS,
    signals.HANDLERS,
    tip_recorder.HANDLERS,
    tip_shaper.HANDLERS,
    util.HANDLERS,
    z_controller.HANDLERS,
    z_spectroscopy.HANDLERS,
)

HANDLERS: Mapping[str, Handler] = {name: one for handlers in _HANDLERS for name, one in handlers.items()}
"""Who carries out a command, by its name."""

# Why there is no such command, or nothing of a module.
_REASONS: Mapping[str, str] = {
    "TipRec.DataSave": "the gateway writes no files for scripts, get the samples with TipRec.DataGet",
    "ZCtrl.WithdrawRateSet": "the speed of a withdrawal is that of the instrument",
    "AtomTrack": "the instrument has no atom tracking",
    "DigLines": "the instrument has no digital lines",
    "LockIn": "the instrument has no lock-in amplifier",
    "LockInFreqSwp": "the instrument has no lock-in amplifier",
    "Motor": "the motors take steps and tell nothing",
    "PLL": "the oscillation is set up when the server is started, as options of its driver",
    "UserOut": "the instrument has no user outputs",
}


def why_not(name: str) -> str:
    """Say why a command is not carried out."""
    reason = _REASONS.get(name) or _REASONS.get(name.partition(".")[0], "the gateway of twinscope has nothing like it")
    return f"{name} is not supported: {reason}"
