"""Steps of matrices have singular values that are alike; vectors move as with Adam."""

import jax.numpy as jnp
import numpy as np

from twinscope.agents.structure_discovery.training.optimiser import optimiser
from twinscope.agents.structure_discovery.training.options import TrainingOptions

OPTIONS = TrainingOptions(steps=100, warmup=1, learning_rate=0.01, weight_decay=0.0)


def second_step(weights: dict, gradient: dict) -> dict:
    """The first one has a learning rate of zero."""
    chosen = optimiser(OPTIONS)
    state = chosen.init(weights)
    _, state = chosen.update(gradient, state, weights)
    return chosen.update(gradient, state, weights)[0]


def test_all_directions_of_a_matrix_move_alike() -> None:
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, 16)))[0] for n in (9 * 16, 24))
    # One direction has a gradient a thousand times that of another.
    gradient = (left * np.geomspace(1, 1e-3, 16)) @ right.T
    step = second_step(
        {"kernel": jnp.zeros((3, 3, 16, 24)), "bias": jnp.zeros(24)},
        {"kernel": jnp.array(gradient.reshape(3, 3, 16, 24), jnp.float32), "bias": jnp.linspace(0.1, 1, 24)},
    )
    values = np.linalg.svd(np.asarray(step["kernel"]).reshape(-1, 24), compute_uv=False)[:16]
    assert values.max() < 4 * values.min()
    # Adam moves every number alike, by about the learning rate.
    np.testing.assert_allclose(step["bias"], -OPTIONS.learning_rate, rtol=0.2)
    assert 0.05 < np.sqrt(np.mean(np.asarray(step["kernel"]) ** 2)) / OPTIONS.learning_rate < 0.5
