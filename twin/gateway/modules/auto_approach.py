"""The approach, after which the z-controller is on, as on a Nanonis controller."""

from collections.abc import Mapping
from typing import Any

from twinscope.errors import TwinscopeError
from twinscope.gateway.call import Call
from twinscope.gateway.codes import on_or_off
from twinscope.gateway.tasks import Task

_NAME = "the approach"


def _open(call: Call, given: Mapping[str, Any]) -> None:
    del call, given


def _switch(call: Call, given: Mapping[str, Any]) -> None:
    if not on_or_off("on_off", given["on_off"]):
        call.controller.tasks.stop(_NAME)
        return
    # Refused now, not when nobody looks.
    call.operator.check("approach")
    mode = call.controller.active_mode() if call.capabilities.feedback_modes else None

    def steps(task: Task) -> None:
        task.do("approach")
        if mode is not None:
            task.do("set_feedback", mode=mode)

    call.controller.tasks.begin(_NAME, steps)


def _status(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    task = call.controller.tasks.latest(_NAME)
    if task is not None and task.done.is_set() and task.error is not None:
        # Who waits for its end must not take a failure for one.
        raise TwinscopeError.from_dict(task.error.to_dict())
    return {"status": int(call.controller.tasks.running(_NAME))}


HANDLERS = {"AutoApproach.Open": _open, "AutoApproach.OnOffSet": _switch, "AutoApproach.OnOffGet": _status}
