"""The network that sees images with several tips."""

from collections.abc import Callable
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.agents._random_weights import with_random_weights
from twinscope.agents.structure_discovery.networks.multi_input import MultiInputConfig, MultiInputNetwork
from twinscope.errors import ConfigurationError, InvalidRequestError

_SMALL = MultiInputConfig(width=1 / 16, sigma=True)
_run = nnx.jit(MultiInputNetwork.__call__)


@lru_cache
def _network() -> MultiInputNetwork:
    return with_random_weights(lambda: MultiInputNetwork(_SMALL, rngs=nnx.Rngs(0)))


def _stacks(count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 2, 6, 16, 16)).astype(np.float32)


def _parameters(config: MultiInputConfig) -> int:
    network = nnx.eval_shape(lambda: MultiInputNetwork(config, rngs=nnx.Rngs(0)))
    return sum(value.size for value in jax.tree.leaves(nnx.state(network, nnx.Param)))


def test_full_width_has_as_many_parameters_as_published() -> None:
    """15.60 million, and 15.53 million with one tip, as counted in its source."""
    assert round(_parameters(MultiInputConfig()) / 1e6, 2) == 15.60
    assert round(_parameters(MultiInputConfig(tips=("CO",))) / 1e6, 2) == 15.53


def test_a_small_one_has_fewer() -> None:
    assert _parameters(MultiInputConfig(width=1 / 8)) < 300_000


def test_the_map_has_the_shape_of_the_images_and_a_sigma_if_asked_for() -> None:
    found = _run(_network(), _stacks())
    assert found.field.shape == found.sigma.shape == (2, 16, 16)
    assert (found.sigma > 0).all()
    without = nnx.eval_shape(lambda: MultiInputNetwork(MultiInputConfig(width=1 / 16), rngs=nnx.Rngs(0))(_stacks()))
    assert without.sigma is None


def test_more_slices_can_be_used() -> None:
    config = MultiInputConfig(slices=10, width=1 / 16)
    assert config.planes == (10, 5, 4, 2)
    found = nnx.eval_shape(lambda: MultiInputNetwork(config, rngs=nnx.Rngs(0))(jnp.zeros((1, 2, 10, 16, 16))))
    assert found.field.shape == (1, 16, 16)


@pytest.mark.parametrize("change", [lambda x, tip: x[tip] + 1, lambda x, tip: x[tip, ::-1]])
def test_what_each_tip_sees_matters(change: Callable[[np.ndarray, int], np.ndarray]) -> None:
    """Also how its images are ordered. With the same images, the two tips are not the same to the network."""
    stacks = np.broadcast_to(_stacks(1)[:, :1], (2, 2, 6, 16, 16)).copy()
    before = np.asarray(_run(_network(), stacks).field)
    fields = []
    for tip in range(2):
        changed = stacks.copy()
        changed[0, tip] = change(stacks[0], tip)
        fields.append(np.asarray(_run(_network(), changed).field))
    typical = before.std()
    for field in fields:
        assert np.abs(field[0] - before[0]).max() > 1e-2 * typical
        np.testing.assert_allclose(field[1], before[1], atol=1e-4 * typical)
    assert np.abs(fields[0][0] - fields[1][0]).max() > 1e-2 * typical


def test_the_loss_falls() -> None:
    """The negative log-likelihood of a map that one of the images shows."""
    graph, weights = nnx.split(with_random_weights(lambda: MultiInputNetwork(_SMALL, rngs=nnx.Rngs(0)), seed=1))
    stacks = jnp.asarray(_stacks())
    target = 0.01 * stacks[:, 0, -1]
    optimiser = optax.adam(3e-3)

    def loss(weights: nnx.State) -> jax.Array:
        found = nnx.merge(graph, weights)(stacks)
        return jnp.mean(((found.field - target) / found.sigma) ** 2 / 2 + jnp.log(found.sigma / 0.01))

    # Without the optimisations of XLA: compiling takes ten times longer than all steps.
    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def step(weights: nnx.State, state: optax.OptState) -> tuple[nnx.State, optax.OptState, jax.Array]:
        value, gradient = jax.value_and_grad(loss)(weights)
        change, state = optimiser.update(gradient, state)
        return optax.apply_updates(weights, change), state, value

    state, losses = optimiser.init(weights), []
    for _ in range(12):
        weights, state, value = step(weights, state)
        losses.append(float(value))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("shape", [(1, 1, 6, 16, 16), (1, 2, 5, 16, 16), (1, 2, 6, 16, 12), (2, 6, 16, 16)])
def test_stacks_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequestError, match=r"expected \(batch, 2, 6, ny, nx\), with multiples of 8"):
        _network()(jnp.zeros(shape))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tips": ()}, "tips is empty"),
        ({"slices": 5}, "slices is 5: expected at least 6"),
        ({"width": 0.0}, r"width is 0\.0: expected a positive number"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MultiInputConfig(**wrong)
