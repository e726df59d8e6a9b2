"""The command ``twinscope train``: weights for structure discovery."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscope._optional import import_optional
from twinscope.cli.options import AddCommand

if TYPE_CHECKING:
    from twinscope.agents.structure_discovery.training.trainer import Progress

# What two cores do in some hours; a GPU wants no pool, larger batches and more steps.
_DEFAULTS = {"molecules": 10000, "pool": 2, "steps": 8000, "batch": 16}


def train(options: argparse.Namespace) -> int:
    """Train the network of structure discovery; a training that was stopped goes on when the command is repeated."""
    for package in ("flax", "optax"):
        import_optional(package, "train", "a training")
    import_optional("orbax.checkpoint", "train", "a training")
    from twinscope import _jax_setup

    _jax_setup.keep_compiled_code()
    if options.distributed:
        import jax

        jax.distributed.initialize()
    from twinscope.agents.structure_discovery.training.options import TrainingOptions
    from twinscope.agents.structure_discovery.training.run import Reports, Run
    from twinscope.agents.structure_discovery.training.run import train as train_network
    from twinscope.agents.structure_discovery.training_data import TWINSCOPE

    run = Run(
        recipe=replace(TWINSCOPE, tips=options.tips),
        molecules=options.molecules,
        elements=options.elements,
        own_molecules=options.own_molecules,
        pool=options.pool,
        start=options.start,
        training=TrainingOptions(
            steps=options.steps, batch=options.batch, learning_rate=options.learning_rate, seed=options.seed
        ),
    )
    with _Bars() as bars:
        reports = Reports(
            molecules=bars.counter("molecules", "molecule"),
            samples=bars.counter("samples", "sample"),
            steps=bars.steps,
            found=bars.counter("atoms looked for", "sample"),
        )
        weights = train_network(options.folder, run, reports, processes=options.processes)
    print(f"weights     {weights}")
    print(f"model card  {weights.with_suffix('.md')}")
    return 0


def add_commands(add: AddCommand) -> None:
    """Add the commands of this module."""
    sub = add("train", train)
    sub.add_argument("folder", type=Path, help="for the weights, checkpoints, curves and samples")
    sub.add_argument("--molecules", type=int, default=_DEFAULTS["molecules"], help="to make (%(default)s)")
    sub.add_argument("--elements", choices=("light", "heavy"), default="light", help="HCNOF, or more (%(default)s)")
    sub.add_argument("--own-molecules", type=Path, metavar="FOLDER", help="use .xyz, .mol and .sdf files of a folder")
    sub.add_argument(
        "--pool",
        type=int,
        default=_DEFAULTS["pool"],
        metavar="N",
        help="samples of each molecule, made before and kept; 0: made anew for every step, for GPUs (%(default)s)",
    )
    sub.add_argument(
        "--tips",
        type=lambda text: tuple(text.split(",")),
        default=("CO",),
        help="of the stacks, the first of which is always there: CO or CO,Xe (CO)",
    )
    sub.add_argument("--steps", type=int, default=_DEFAULTS["steps"], help="of the optimiser (%(default)s)")
    sub.add_argument("--batch", type=int, default=_DEFAULTS["batch"], help="samples in a step (%(default)s)")
    sub.add_argument("--learning-rate", type=float, default=1e-3, help="the highest (%(default)s)")
    sub.add_argument("--start", type=Path, metavar="WEIGHTS", help="begin with these weights, not with random ones")
    sub.add_argument("--seed", type=int, default=0, help="of everything but the molecules (%(default)s)")
    sub.add_argument("--processes", type=int, default=2, help="that make molecules and samples (%(default)s)")
    sub.add_argument("--distributed", action="store_true", help="one of several processes, found by jax.distributed")


class _Bars:
    """Progress bars on stderr, one after the other."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._name = ""

    def __enter__(self) -> "_Bars":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def counter(self, name: str, unit: str) -> Any:
        """Return a function that shows how many there are of how many."""
        return lambda done, total: self._show(name, unit, done, total)

    def steps(self, progress: "Progress") -> None:
        """Show the loss, and errors when the network was validated."""
        self._show("training", "step", progress.step, progress.steps)
        self._bar.set_postfix_str(f"{progress.rate:.0f} samples/s, maps {progress.parts['maps']:.4f}")
        if progress.score is not None:
            errors = ", ".join(f"{name} {error:.2e}" for name, error in progress.score.noisy.items())
            self._bar.write(f"step {progress.step}: {errors}")

    def _show(self, name: str, unit: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if name != self._name:
            self._close()
            self._bar, self._name = tqdm(total=total, unit=unit, desc=name, initial=done), name
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
