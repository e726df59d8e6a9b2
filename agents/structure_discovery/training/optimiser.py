"""What turns gradients into steps."""

from math import prod
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon

from twinscope.agents.structure_discovery.training.options import TrainingOptions

_LARGEST_GRADIENT = 1.0
_LAST_RATE = 0.01  # Of the highest learning rate.
# Size of a step of a matrix, in units of the learning rate, that is alike to Adam's (Liu et al., arXiv:2502.16982).
_LIKE_ADAM = 0.2
_NARROWEST = 16  # Matrices with fewer rows or columns are as good as vectors.


def optimiser(options: TrainingOptions) -> optax.GradientTransformation:
    """Return Muon for matrices and AdamW for the rest, on one schedule.

    Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon) makes the singular values of every step
    alike. From the same weights and with the same samples it was ahead of AdamW alone at every step that was looked at.

    Parameters
    ----------
    options
        Learning rate, warm-up, steps and weight decay.
    """
    rate = optax.warmup_cosine_decay_schedule(
        0.0,
        options.learning_rate,
        options.warmup,
        max(options.steps, options.warmup + 1),
        options.learning_rate * _LAST_RATE,
    )
    return optax.chain(
        optax.clip_by_global_norm(_LARGEST_GRADIENT),
        muon(
            rate,
            weight_decay=options.weight_decay,
            adam_weight_decay=options.weight_decay,
            adam_learning_rate=rate,
            muon_weight_dimension_numbers=_as_matrices,
            consistent_rms=_LIKE_ADAM,
        ),
    )


def _as_matrices(weights: Any) -> Any:
    return jax.tree_util.tree_map_with_path(_as_matrix, weights)


def _as_matrix(path: tuple[Any, ...], weight: jax.Array) -> MuonDimensionNumbers | None:
    """Say which axes of a weight are inputs and which are outputs; None for what is no matrix."""
    axes = tuple(range(weight.ndim))
    # Kernels are (in, out), of convolutions (y, x, in, out), of attention (in, heads, features) and, where it puts its
    # heads together again, (heads, features, out).
    splits_heads = weight.ndim == len(("in", "heads", "features")) and "out" not in map(_name, path)
    inputs = 1 if splits_heads else weight.ndim - 1
    if min(prod(weight.shape[:inputs]), prod(weight.shape[inputs:])) < _NARROWEST:
        return None
    return MuonDimensionNumbers(axes[:inputs], axes[inputs:])


def _name(key: Any) -> str:
    return str(getattr(key, "key", key))
