"""The published network layer by layer, and the table of layers by which it is presented."""

import numpy as np
import pytest
from flax import nnx

from tests.agents._random_weights import with_random_weights
from twinscope.agents.structure_discovery.networks.asd2020 import (
    ASD2020,
    LAYER_TABLE,
    PUBLISHED,
    ASD2020Config,
    Depth,
    LayerRow,
    ParallelZConv,
    layer_table,
    normalised,
)
from twinscope.errors import ConfigurationError, InvalidRequestError

_DECODER = [9_232, 2_320, 2_320, 2_320, 2_320, 2_320, 145]
_run = nnx.jit(ASD2020.__call__)


def _network(config: ASD2020Config = PUBLISHED) -> ASD2020:
    return with_random_weights(lambda: ASD2020(config, rngs=nnx.Rngs(0)))


def _maps(network: ASD2020, stacks: np.ndarray) -> np.ndarray:
    return np.asarray(_run(network, stacks.astype(np.float32)))


def _counts(rows: list[LayerRow]) -> list[int]:
    return [row.parameters for row in rows if row.parameters]


def test_layers_of_the_published_network() -> None:
    rows = layer_table(PUBLISHED)
    assert _counts(rows) == [112, 872, 3_472, 18_496, 36_928, *_DECODER, *_DECODER, *_DECODER]
    assert sum(row.parameters for row in rows) == 122_811
    shapes = {row.name: row.shape for row in rows}
    assert [shapes[name] for name in ("conv3d_1", "pool_1", "pool_2", "pool_3", "planes_to_features", "conv2d_2")] == [
        (128, 128, 10, 4),
        (64, 64, 5, 4),
        (32, 32, 2, 8),
        (16, 16, 2, 16),
        (16, 16, 32),
        (16, 16, 64),
    ]
    for name in PUBLISHED.maps:
        assert shapes[f"{name}/upsample_1"] == (32, 32, 64)
        assert shapes[f"{name}/conv_4"] == (64, 64, 16)
        assert shapes[f"{name}/conv_7"] == (128, 128, 1)


def test_the_layer_table_that_is_presented() -> None:
    rows = layer_table(LAYER_TABLE)
    assert _counts(rows) == [112, 872, 3_472, 5_888, 8_256, 36_928, 36_928, *_DECODER]
    assert sum(row.parameters for row in rows) == 113_433
    shapes = {row.name: row.shape for row in rows}
    assert shapes["parallel_z"] == (16, 16, 128)
    assert shapes["conv2d_1"] == (16, 16, 64)


@pytest.mark.parametrize(("slices", "parameters"), [(10, 2_432), (20, 5_888)])
def test_parallel_convolutions_have_parameters_for_each_plane(slices: int, parameters: int) -> None:
    rows = layer_table(ASD2020Config(maps=("vdw_spheres",), slices=slices, depth="parallel"))
    assert {row.name: row.parameters for row in rows}["parallel_z"] == parameters


def test_parallel_convolutions_see_one_channel_each() -> None:
    layer = with_random_weights(lambda: ParallelZConv(planes=2, channels=3, filters=4, rngs=nnx.Rngs(0)))
    x = np.zeros((1, 5, 5, 2, 3), np.float32)
    changed = x.copy()
    changed[0, 2, 2, 1, 1] = 1.0
    difference = np.abs(layer(changed) - layer(x)).max(axis=(0, 1, 2)).reshape(3, 4)
    assert (difference[1] > 0).all()
    assert (difference[[0, 2]] == 0).all()


@pytest.mark.parametrize("depth", ["joint", "parallel"])
def test_maps_come_in_the_shape_of_the_images(depth: Depth) -> None:
    maps = _maps(_network(ASD2020Config(depth=depth)), np.random.default_rng(0).normal(size=(2, 10, 16, 24)))
    assert maps.shape == (2, 3, 16, 24)
    assert (maps[:, 1:] >= 0).all()


def test_the_last_slice_matters_though_pooling_leaves_its_plane_out() -> None:
    stacks = np.random.default_rng(0).normal(size=(2, 10, 16, 24))
    changed = stacks.copy()
    changed[:, -1] += 1.0
    network = _network()
    assert np.abs(_maps(network, changed) - _maps(network, stacks)).max() > 0


@pytest.mark.parametrize("shape", [(1, 9, 16, 16), (1, 10, 16, 20), (10, 16, 16)])
def test_stacks_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequestError, match=r"expected \(batch, 10, ny, nx\), with multiples of 8"):
        _maps(_network(), np.zeros(shape))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"maps": ()}, "maps is empty"),
        ({"slices": 3}, "slices is 3: expected at least 4"),
        ({"depth": "deep"}, "depth is 'deep': expected one of joint, parallel"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ASD2020Config(**wrong)


def test_images_are_normalised_one_by_one() -> None:
    images = np.asarray(normalised(np.random.default_rng(0).normal(3, 7, (2, 3, 8, 8)).astype(np.float32)))
    np.testing.assert_allclose(images.mean(axis=(-2, -1)), 0, atol=1e-6)
    np.testing.assert_allclose(images.std(axis=(-2, -1)), 1, rtol=1e-5)
