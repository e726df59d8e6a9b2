"""The model card: what one must know about trained weights before using them (Mitchell et al., FAT* 2019)."""

import json
from pathlib import Path
from typing import Any

from twinscope.agents.structure_discovery.networks.saved import Card
from twinscope.agents.structure_discovery.prediction import DESCRIPTORS
from twinscope.agents.structure_discovery.training.trainer import METRICS
from twinscope.errors import StoreError

MODEL_CARD = "discovery.md"
"""Its name, beside the weights."""

_LINES_OF_THE_CURVE = 12
_OF_ATOMS = ("precision", "recall", "rms", "balanced_accuracy", "bond_precision", "bond_recall")


def write_model_card(folder: Path, card: Card) -> Path:
    """Write the model card of a training into its folder, with the curve that it has left there.

    Raises
    ------
    StoreError
        When it cannot be written.
    """
    path = folder / MODEL_CARD
    try:
        path.write_text(_text(card, _curve(folder / METRICS)))
    except OSError as exc:
        raise StoreError(f"the model card cannot be written to {path}: {exc}") from exc
    return path


def _curve(path: Path) -> list[dict[str, Any]]:
    """Return the last line of every step; a training that was stopped may have validated one twice."""
    if not path.exists():
        return []
    steps = {line["step"]: line for line in map(json.loads, path.read_text().splitlines())}
    return [steps[step] for step in sorted(steps)]


def _text(card: Card, curve: list[dict[str, Any]]) -> str:
    told = card.training
    run = told["run"]
    training, molecules, atoms = run["training"], told["molecules"], told["atoms"]
    samples = "made anew for every step" if not run["pool"] else f"{run['pool']} of each molecule, made once"
    return f"""# Model card: {card.name}

Written by the training. The network is `DiscoveryNetwork`, widths {list(card.config.widths)}, blocks
{list(card.config.blocks)}, {card.config.slices} slices; input: frequency shift at
heights 0.1 Å apart, over 16 Å, with the tips {", ".join(card.config.tips)}, of which the first is needed.

| | |
|---|---|
| made | {told["created"]}, twinscope {told["twinscope"]} |
| device | {told["devices"]} x {told["device"]} |
| molecules | {molecules["train"]} to train, {molecules["validation"]} of other scaffolds to validate and calibrate |
| elements | {run["elements"]} |
| samples | {samples} |
| begun with | {run["start"] or "random weights"} |
| steps | {training["steps"]}, {training["batch"]} samples each |
| learning rate | {training["learning_rate"]}, cosine after {training["warmup"]} steps |
| noise | uniform, amplitude 0 to {training["noise"]} of the range of a slice |
| seed | {training["seed"]} |
| duration | {told["hours_of_the_last_session"]} h for the last {told["steps_of_the_last_session"]} steps |

## Errors on the validation molecules

Mean squared errors, in the unit squared, from stacks of the first tip; "noisy" with uniform noise of 0.1 of the range
of each slice. In brackets R², with noise: from the first tip, and from all.

{_table(curve)}

## Atoms

The graph network `graph.npz` has learned from the atoms that the network
found in {run["graph_samples"]} samples, for {run["graph_steps"]} steps.
On {told["molecules_scored"]} of the validation molecules with this noise, atoms up to 0.8 Å below the highest:

| precision | recall | RMS of positions, Å | elements, mean of their shares | bonds: precision | recall |
|---|---|---|---|---|---|
| {" | ".join(f"{atoms[name]:.3f}" for name in _OF_ATOMS)} |

## Uncertainty

Predictions are means over four mirror images, for which standard deviations were multiplied by
{_factors(card)}:
an interval of 1.645 of them on either side holds 90 % of the pixels of the validation molecules. Errors in the table
above are those of single images.

## Recipe of the samples

```json
{json.dumps(run["recipe"], indent=2)}
```

## Limits

Simulated images of single molecules of these elements; nothing is known about others. Charges of the molecules are
empirical, so that electrostatic maps are those of the model. Atoms more than about 1 Å below the highest are not seen.
"""


def _table(curve: list[dict[str, Any]]) -> str:
    every = max(1, -(-len(curve) // _LINES_OF_THE_CURVE))
    shown = curve[::-1][::every][::-1]
    titles = [f"{name}, {unit}: noisy / clean (R², of all)" for name, unit in DESCRIPTORS.items()]
    head = "| step | " + " | ".join(titles) + " |"
    rows = []
    for line in shown:
        cells = [_cell(line["validation"], name) for name in DESCRIPTORS]
        rows.append(f"| {line['step']} | " + " | ".join(cells) + " |")
    return "\n".join([head, "|---" * (len(DESCRIPTORS) + 1) + "|", *rows])


def _cell(score: dict[str, Any], name: str) -> str:
    explained = f"{score['explained'][name]:.3f}, {score['explained_by_all'][name]:.3f}"
    return f"{score['noisy'][name]:.3g} / {score['clean'][name]:.3g} ({explained})"


def _factors(card: Card) -> str:
    lines = []
    for count, factors in enumerate(card.sigma_factors, start=1):
        told = ", ".join(f"{factor:.2f} ({name})" for name, factor in zip(DESCRIPTORS, factors, strict=True))
        lines.append(f"{told} with {' and '.join(card.config.tips[:count])}")
    return "; ".join(lines)
