"""Weights that others have published give the predictions that others have made with them."""

import re
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
from flax import nnx

from tests.agents._asd_reference import asd_samples, noise_of
from tests.agents._random_weights import with_random_weights
from twinscope.agents.structure_discovery.networks.asd2020 import ASD2020, LAYER_TABLE, ASD2020Config, normalised
from twinscope.agents.structure_discovery.networks.keras_weights import load_keras_weights
from twinscope.errors import ConfigurationError, StoreError

# What an independent implementation leaves between itself and the file, whose values have 16 bits of mantissa less.
_LARGEST, _TYPICAL = 5e-4, 5e-5


_run = nnx.jit(ASD2020.__call__)


@pytest.fixture
def weights(shared: Path) -> Path:
    return shared / "asd/model_light.h5"


@pytest.mark.parametrize("noise", [False, True])
def test_predictions_are_those_of_an_independent_implementation(shared: Path, weights: Path, noise: bool) -> None:
    samples = asd_samples(shared)[::3]
    images = np.asarray(normalised(np.stack([sample.frequency_shift for sample in samples])))
    expected = np.stack([sample.predicted_noisy if noise else sample.predicted_clean for sample in samples])

    predicted = _run(load_keras_weights(weights), noise_of(samples, images) if noise else images)

    difference = np.asarray(predicted) - expected
    assert np.abs(difference).max() < _LARGEST
    assert np.sqrt(np.mean(difference**2)) < _TYPICAL


def test_a_given_network_is_filled(weights: Path) -> None:
    network = with_random_weights(lambda: ASD2020(ASD2020Config(padding="zeros"), rngs=nnx.Rngs(0)))
    assert load_keras_weights(weights, network) is network
    filled, published = (jax.tree.leaves(nnx.state(one)) for one in (network, load_keras_weights(weights)))
    assert all(map(np.array_equal, filled, published))


def test_another_network_is_refused_and_stays_as_it_was(weights: Path) -> None:
    network = with_random_weights(lambda: ASD2020(LAYER_TABLE, rngs=nnx.Rngs(0)))
    before = jax.tree.leaves(nnx.state(network))
    with pytest.raises(ConfigurationError, match="it has 12 others, such as conv2d_reflective_12"):
        load_keras_weights(weights, network)
    assert all(map(np.array_equal, before, jax.tree.leaves(nnx.state(network))))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=re.escape(f"cannot read {tmp_path / 'none.h5'}")):
        load_keras_weights(tmp_path / "none.h5")


def test_a_file_that_is_no_hdf5_is_named(tmp_path: Path) -> None:
    path = tmp_path / "page.h5"
    path.write_text("<html>404: Not Found</html>")
    with pytest.raises(StoreError, match=r"page\.h5 is not an HDF5 file"):
        load_keras_weights(path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "half.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(StoreError, match=r"cannot read .*half\.h5"):
        load_keras_weights(path)


def test_other_contents_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["conv2d_1/kernel:0"] = np.zeros(3)
    with pytest.raises(ConfigurationError, match="it lacks 26 of 26 layers, such as conv2d_reflective_1; it has 1 oth"):
        load_keras_weights(tmp_path / "other.h5")


def _changed(weights: Path, copy: Path, kernel: np.ndarray | None) -> Path:
    copy.write_bytes(weights.read_bytes())
    with h5py.File(copy, "a") as file:
        layer = file["conv2d_reflective_5/conv2d_5"]
        del layer["kernel:0"]
        if kernel is not None:
            layer["kernel:0"] = kernel
    return copy


def test_a_kernel_of_another_shape_is_refused(weights: Path, tmp_path: Path) -> None:
    path = _changed(weights, tmp_path / "changed.h5", np.zeros((3, 3, 16, 17)))
    with pytest.raises(
        ConfigurationError, match=r"kernel:0 of the layer conv2d_reflective_5 .* shape \(3, 3, 16, 17\)"
    ):
        load_keras_weights(path)


def test_a_missing_kernel_is_named(weights: Path, tmp_path: Path) -> None:
    path = _changed(weights, tmp_path / "changed.h5", None)
    with pytest.raises(ConfigurationError, match=r"has no kernel:0 of the layer conv2d_reflective_5"):
        load_keras_weights(path)
