"""The commands that act on an instrument: tip, jobs in progress, and what keeps it safe."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from twinscope.cli.options import AddCommand, add_address_options, add_control_options, connect
from twinscope.errors import InvalidRequestError

if TYPE_CHECKING:
    from twinscope.acquisition import Acquisition
    from twinscope.microscope import Microscope


def approach(options: argparse.Namespace) -> int:
    """Bring the tip to its working height."""
    with _controlled(options, "approach") as scope:
        z = scope.approach().z
    return _say(f"the tip is at z = {z * 1e9:.4f} nm")


def withdraw(options: argparse.Namespace) -> int:
    """Take the tip away from the sample, whatever the instrument is doing."""
    with _controlled(options, "withdraw") as scope:
        z = scope.withdraw().z
    return _say(f"the tip is at z = {z * 1e9:.4f} nm")


def stop(options: argparse.Namespace) -> int:
    """Emergency stop: abort everything and withdraw the tip, whoever has control; nothing moves until acknowledged."""
    with connect(options) as scope:
        scope.emergency_stop(options.reason)
        tip = scope.state().tip
    return _say(f"stopped, the tip is {tip}: nothing moves until `twinscope acknowledge`")


def acknowledge(options: argparse.Namespace) -> int:
    """Say that somebody has looked at the tip and that it may move again."""
    with _controlled(options, "acknowledge") as scope:
        reason = scope.state().blocked
        scope.acknowledge()
    return _say(f"the tip may move again after: {reason}")


def restart(options: argparse.Namespace) -> int:
    """Start a driver again that has failed for good."""
    with _controlled(options, "restart") as scope:
        scope.restart()
        status = scope.state().status
    return _say(f"the driver was started again: the instrument is {status}")


def pause(options: argparse.Namespace) -> int:
    """Let an acquisition rest after the line in progress."""
    return _direct(options, "pause", lambda acquisition: acquisition.pause())


def resume(options: argparse.Namespace) -> int:
    """Let a paused acquisition go on."""
    return _direct(options, "resume", lambda acquisition: acquisition.resume())


def abort(options: argparse.Namespace) -> int:
    """Stop an acquisition; what was measured is kept."""
    return _direct(options, "abort", lambda acquisition: acquisition.abort())


def break_lease(options: argparse.Namespace) -> int:
    """Take control from whoever has it, as an administrator."""
    with connect(options) as scope:
        lease = scope.state().lease
        scope.break_control()
    return _say("control was taken" if lease is None else f"control was taken from {lease['holder']}")


def add_commands(add: AddCommand) -> None:
    """Add the commands of this module."""
    for name, tip_command in (("approach", approach), ("withdraw", withdraw)):
        add_control_options(add(name, tip_command))
    sub = add("stop", stop)
    sub.add_argument("--reason", default="", help="what others are told")
    add_address_options(sub)
    add_control_options(add("acknowledge", acknowledge))
    add_control_options(add("restart", restart))
    for name, job_command in (("pause", pause), ("resume", resume), ("abort", abort)):
        sub = add(name, job_command)
        sub.add_argument("id", nargs="?", help="of the acquisition (default: the one in progress)")
        add_control_options(sub)
    add_address_options(add("break-lease", break_lease))


@contextmanager
def _controlled(options: argparse.Namespace, what: str) -> "Iterator[Microscope]":
    with connect(options) as scope, scope.control(purpose=f"twinscope {what}", wait=options.wait):
        yield scope


def _direct(options: argparse.Namespace, what: str, action: "Callable[[Acquisition], None]") -> int:
    with _controlled(options, what) as scope:
        acquisition = scope.acquisition(options.id or _in_progress(scope))
        action(acquisition)
        progress = acquisition.progress()
    return _say(
        f"{acquisition.id}: {what} was asked for, {progress.state} at {progress.done} of {progress.total} lines"
    )


def _in_progress(scope: "Microscope") -> str:
    state = scope.state()
    if state.job is None or state.job != state.acquisition:
        raise InvalidRequestError("no acquisition is in progress: give the id of one, see `twinscope jobs`")
    return state.job


def _say(text: str) -> int:
    print(text)
    return 0
