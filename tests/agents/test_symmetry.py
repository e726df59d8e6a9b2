"""The mirror image of a sample is told to be the mirror image of what it is."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.agents._random_weights import with_random_weights
from twinscope.agents.structure_discovery.networks.discovery import DiscoveryConfig, DiscoveryNetwork
from twinscope.agents.structure_discovery.networks.symmetry import seen_from_all_sides
from twinscope.agents.structure_discovery.prediction import CONDITIONS

PIXELS = 16
_run = nnx.jit(seen_from_all_sides)


@pytest.mark.parametrize(("x", "y"), [(-1, 1), (1, -1), (-1, -1)])
def test_a_mirror_image_is_told_as_one(x: int, y: int) -> None:
    config = DiscoveryConfig(widths=(4, 8), blocks=(1, 1), heads=2)
    network = with_random_weights(lambda: DiscoveryNetwork(config, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    stack = jnp.array(rng.normal(size=(2, 1, 10, PIXELS, PIXELS)), jnp.float32)
    # The first lines of the last slice are missing.
    measured = jnp.ones((2, 1, 10, PIXELS), bool).at[:, :, 9, :5].set(False)
    one = _run(network, stack, measured)
    other = _run(network, stack[..., ::y, ::x], measured[..., ::y])

    def same(a: np.ndarray, b: np.ndarray) -> None:
        np.testing.assert_allclose(a, b, atol=1e-5)

    for name in ("maps", "log_sigma", "occupancy", "elements"):
        same(getattr(other, name), getattr(one, name)[:, ::y, ::x])
    same(other.offsets, one.offsets[:, ::y, ::x] * np.array([x, y, 1]))
    sign = dict.fromkeys(CONDITIONS, 1) | {"tilt_x": x, "tilt_y": y}
    same(other.conditions, one.conditions * np.array(list(sign.values())))
    same(other.conditions_log_sigma, one.conditions_log_sigma)
    # The network itself would tell something else.
    direct = nnx.jit(DiscoveryNetwork.__call__)
    assert (
        np.abs(direct(network, stack, measured).maps - direct(network, stack[..., ::y, ::x], measured).maps).max()
        > 0.01
    )
