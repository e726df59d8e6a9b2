"""Building blocks of networks do what NumPy does."""

import numpy as np
import pytest
from flax import nnx

from tests.agents._random_weights import with_random_weights
from twinscope.agents.structure_discovery.networks.layers import Conv, Padding, average_pool, leaky_relu, upsample
from twinscope.errors import ConfigurationError

_IMAGE = np.arange(20.0, dtype=np.float32).reshape(1, 4, 5, 1) ** 2


@pytest.mark.parametrize(("padding", "mode"), [("edge", "edge"), ("zeros", "constant"), ("reflect", "reflect")])
def test_a_kernel_of_ones_sums_the_padded_neighbours(padding: Padding, mode: str) -> None:
    conv = Conv(1, 1, (3, 3), padding, rngs=nnx.Rngs(0))
    conv.conv.kernel[...] = np.ones((3, 3, 1, 1), np.float32)
    padded = np.pad(_IMAGE[0, ..., 0], 1, mode=mode)  # type: ignore[call-overload]
    expected = sum(padded[i : i + 4, j : j + 5] for i in range(3) for j in range(3))
    np.testing.assert_allclose(conv(_IMAGE)[0, ..., 0], expected, rtol=1e-6)


def test_convolutions_keep_the_size_in_three_dimensions() -> None:
    conv = with_random_weights(lambda: Conv(2, 5, (3, 1, 5), rngs=nnx.Rngs(0)))
    assert conv(np.zeros((1, 4, 5, 6, 2), np.float32)).shape == (1, 4, 5, 6, 5)


def test_a_convolution_can_compute_in_half_precision() -> None:
    conv = with_random_weights(lambda: Conv(1, 2, dtype="bfloat16", rngs=nnx.Rngs(0)))
    assert conv(_IMAGE).dtype == "bfloat16"
    assert conv.conv.kernel.dtype == np.float32


def test_unknown_padding_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="padding is 'reflective': expected one of edge, zeros, reflect"):
        Conv(1, 1, padding="reflective", rngs=nnx.Rngs(0))  # type: ignore[arg-type]


def test_even_kernels_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"size \(3, 2\): expected odd numbers"):
        Conv(1, 1, (3, 2), rngs=nnx.Rngs(0))


def test_pooling_leaves_out_what_does_not_fill_a_window() -> None:
    pooled = average_pool(_IMAGE, (2, 2))
    expected = _IMAGE[0, :, :4, 0].reshape(2, 2, 2, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(pooled[0, ..., 0], expected)


def test_upsampling_repeats_pixels() -> None:
    expected = np.kron(_IMAGE[0, ..., 0], np.ones((2, 3)))
    np.testing.assert_array_equal(upsample(_IMAGE, (2, 3))[0, ..., 0], expected)


def test_slope_below_zero() -> None:
    np.testing.assert_allclose(leaky_relu(np.array([-2.0, 3.0])), [-0.2, 3.0])
