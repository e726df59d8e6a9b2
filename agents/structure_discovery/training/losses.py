"""What training makes small."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from twinscope.agents.structure_discovery.networks.discovery import (
    CONDITION_OFFSETS,
    CONDITION_SCALES,
    DEPTHS,
    MAP_SCALES,
    Output,
)
from twinscope.agents.structure_discovery.prediction import CONDITIONS, DESCRIPTORS
from twinscope.agents.structure_discovery.training.targets import AtomTargets

WEIGHTS: Mapping[str, float] = {
    "maps": 1.0,
    "sigma": 0.03,
    "occupancy": 15.0,
    "elements": 0.1,
    "offsets": 0.3,
    "conditions": 0.03,
}
"""How much the parts of the loss count; found by their size at the end of a short training."""

# The electrostatic map of a single tip is mostly guesswork: its large errors must not drown those of the others, whose
# weights make them alike at the errors that we hope for.
_MAP_WEIGHTS: Mapping[str, float] = {
    "atomic_disks": 1.0,
    "vdw_spheres": 2.0,
    "height_map": 3.0,
    "electrostatic_map": 0.1,
}

# Atoms at these depths are hardly visible.
_HIDDEN_DEPTH, _HIDDEN_WEIGHT = -0.9, 0.3
_LAYER_WEIGHTS = np.where(np.array(DEPTHS) > _HIDDEN_DEPTH, 1.0, _HIDDEN_WEIGHT).astype(np.float32)

# Å: larger errors of positions count in proportion, so that atoms that cannot be seen do not decide.
_POSITION_SCALE = 0.05

# Rare elements count more, by the inverse root of how often they are: of H C N O F Si P S Cl Br.
_ELEMENT_WEIGHTS = (0.8, 0.7, 1.5, 1.5, 2.0, 2.5, 2.5, 2.0, 2.0, 2.5)


def scaled_maps(maps: jax.Array | np.ndarray) -> jax.Array:
    """Turn maps (b, 4, ny, nx) into what the network computes, (b, ny, nx, 4)."""
    scales = jnp.array([MAP_SCALES[name] for name in DESCRIPTORS], maps.dtype)
    return jnp.moveaxis(jnp.asarray(maps), 1, -1) / scales


def scaled_conditions(conditions: jax.Array | np.ndarray) -> jax.Array:
    """Turn conditions (b, 5) into what the network computes."""
    offsets = jnp.array([CONDITION_OFFSETS[name] for name in CONDITIONS], conditions.dtype)
    return (jnp.asarray(conditions) - offsets) / jnp.array(
        [CONDITION_SCALES[name] for name in CONDITIONS], conditions.dtype
    )


def losses(output: Output, maps: jax.Array, conditions: jax.Array, atoms: AtomTargets) -> dict[str, jax.Array]:
    """Return the parts of the loss.

    Values are fitted by their squared error alone, so that a pixel cannot be given up as uncertain; the standard
    deviations are fitted by the Gaussian likelihood of the errors that are left (Kendall and Gal, 2017, with the
    gradient towards the values cut as by Seitzer et al., 2022).

    Parameters
    ----------
    output
        Of the network.
    maps, conditions
        True ones, as :func:`scaled_maps` and :func:`scaled_conditions` return them.
    atoms
        True ones.
    """
    errors = output.maps - maps
    missed = output.conditions - conditions
    named = optax.softmax_cross_entropy_with_integer_labels(output.elements, atoms.elements)
    away = optax.huber_loss(output.offsets, atoms.offsets, delta=_POSITION_SCALE).sum(-1) / _POSITION_SCALE
    weights = jnp.where(atoms.asked, jnp.asarray(_ELEMENT_WEIGHTS, named.dtype)[atoms.elements], 0.0)
    return {
        "maps": ((errors**2).mean((0, 1, 2)) * jnp.array([_MAP_WEIGHTS[name] for name in DESCRIPTORS])).mean(),
        "sigma": _likelihood(errors, output.log_sigma),
        "occupancy": (optax.sigmoid_binary_cross_entropy(output.occupancy, atoms.occupancy) * _LAYER_WEIGHTS).mean(),
        "elements": (named * weights).sum() / jnp.maximum(weights.sum(), 1.0),
        "offsets": (away * atoms.asked).sum() / jnp.maximum(atoms.asked.sum(), 1.0),
        "conditions": (missed**2).mean() + _likelihood(missed, output.conditions_log_sigma),
    }


def total(parts: Mapping[str, jax.Array]) -> jax.Array:
    """Return the weighted sum of the parts."""
    return sum((WEIGHTS[name] * part for name, part in parts.items()), jnp.zeros(()))


def _likelihood(errors: jax.Array, log_sigma: jax.Array) -> jax.Array:
    squared = jax.lax.stop_gradient(errors**2)
    return (log_sigma + 0.5 * squared * jnp.exp(-2 * log_sigma)).mean()
