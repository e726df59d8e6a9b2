"""The tip shaper: it dips the tip into the sample, which the interlocks must allow."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from twinscope import _checks
from twinscope.capabilities import Capabilities
from twinscope.errors import InvalidRequestError
from twinscope.gateway.call import Call, seconds
from twinscope.gateway.codes import switched
from twinscope.gateway.tasks import Task
from twinscope.state import FEEDBACK_OFF

_NAME = "the tip shaper"


@dataclass(frozen=True, slots=True)
class ShaperSettings:
    """How the tip will be shaped, with the names of the protocol.

    The instrument dips the tip by the tip lift, which is below zero for that, with the bias of the lift, and takes it
    back to where it was. The times and the lift height are told back and not used: it takes its own.
    """

    switch_off_delay: float = 0.0
    change_bias: bool = False
    bias: float = 0.0
    tip_lift: float = -1e-9
    lift_time_1: float = 0.1
    bias_lift: float = 0.0
    bias_settling_time: float = 0.05
    lift_height: float = 1e-9
    lift_time_2: float = 0.1
    end_wait_time: float = 0.1
    restore_feedback: bool = True

    @classmethod
    def initial(cls, capabilities: Capabilities) -> Self:
        """Return the dip of a nanometre, without a bias."""
        del capabilities
        return cls()


_SWITCHES = ("change_bias", "restore_feedback")


def _set(call: Call, given: Mapping[str, Any]) -> None:
    before = call.settings.of(ShaperSettings)
    wanted: dict[str, Any] = {
        name: switched(name, value, getattr(before, name)) if name in _SWITCHES else _checks.finite(name, value)
        for name, value in given.items()
    }
    call.settings.change(ShaperSettings, **wanted)


def _get(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    settings = call.settings.of(ShaperSettings)
    told = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return told | {name: int(told[name]) for name in _SWITCHES}


def _start(call: Call, given: Mapping[str, Any]) -> None:
    settings = call.settings.of(ShaperSettings)
    if settings.tip_lift >= 0:
        raise InvalidRequestError(
            f"the tip lift is {settings.tip_lift:g} m: this instrument shapes the tip by a dip, give one below zero"
        )
    parameters = {"depth": -settings.tip_lift, "voltage": settings.bias_lift}
    call.operator.check("shape_tip", **parameters)
    feedback = call.operator.state().feedback

    def shape(task: Task) -> None:
        if not settings.change_bias:
            task.do("shape_tip", **parameters)
            return
        before = call.controller.signal("bias")
        task.do("set_signal", name="bias", value=settings.bias)
        try:
            task.do("shape_tip", **parameters)
        finally:
            # The document has the controller restore it, and a script goes on with the bias that it had.
            task.tidy("set_signal", name="bias", value=before)

    def steps(task: Task) -> None:
        shape(task)
        if feedback != FEEDBACK_OFF:
            task.do("set_feedback", mode=feedback if settings.restore_feedback else FEEDBACK_OFF)

    task = call.controller.tasks.begin(_NAME, steps)
    if given["wait_until_finished"]:
        call.wait_for(task, seconds(given["timeout"]))


HANDLERS = {"TipShaper.Start": _start, "TipShaper.PropsSet": _set, "TipShaper.PropsGet": _get}
