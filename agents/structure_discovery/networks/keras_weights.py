"""Import of the weights that were published with Alldritt et al., Sci. Adv. 6, eaay6913 (2020), without Keras."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from twinscope.agents.structure_discovery.networks.asd2020 import ASD2020, PUBLISHED
from twinscope.agents.structure_discovery.networks.layers import Conv
from twinscope.errors import ConfigurationError, StoreError

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_PLANAR, _SPATIAL = 2, 3


def load_keras_weights(path: Path | str, network: ASD2020 | None = None) -> ASD2020:
    """Fill a network with weights of a Keras file, such as ``model_light.h5`` of the ASD-AFM repository.

    Parameters
    ----------
    path
        HDF5 file in which Keras 2 has saved weights.
    network
        What to fill; unless given, the published network.

    Returns
    -------
    ASD2020
        `network`; it is unchanged when something is wrong.

    Raises
    ------
    StoreError
        When the file is not there, or is no HDF5 file.
    ConfigurationError
        When it does not hold exactly the weights of this network; the message names the layer.
    """
    if network is None:
        network = nnx.eval_shape(lambda: ASD2020(PUBLISHED, rngs=nnx.Rngs(0)))
    convolutions = network.convolutions()
    names = _layer_names(convolutions)
    with _opened(Path(path)) as file:
        groups = {name for name, item in file.items() if isinstance(item, h5py.Group) and len(item)}
        if groups != set(names):
            raise ConfigurationError(
                f"{path} is not a file of the weights of this network: {_difference(groups, set(names))}. Use"
                " model_light.h5 or model_heavy.h5 of the repository SINGROUP/ASD-AFM"
            )
        weights = [pair for name, conv in zip(names, convolutions, strict=True) for pair in _read(file, name, conv)]
    for variable, values in weights:
        variable.set_value(jnp.asarray(values))
    return network


def _opened(path: Path) -> h5py.File:
    try:
        # HDF5 tells a wrong file from a missing one only in the prose of its message.
        with path.open("rb") as file:
            is_hdf5 = file.read(len(_SIGNATURE)) == _SIGNATURE
        if not is_hdf5:
            raise StoreError(f"{path} is not an HDF5 file: expected weights that were saved by Keras")
        return h5py.File(path, "r")
    except OSError as exc:
        if isinstance(exc, StoreError):
            raise
        raise StoreError(f"cannot read {path}: {exc}") from exc


def _layer_names(convolutions: list[Conv]) -> list[str]:
    """Names that the published code gives: it counts the convolutions of each dimension."""
    counts = {_PLANAR: 0, _SPATIAL: 0}
    names = []
    for conv in convolutions:
        dimension = len(conv.widths)
        counts[dimension] += 1
        names.append(f"conv{dimension}d_reflective_{counts[dimension]}")
    return names


def _read(file: h5py.File, name: str, conv: Conv) -> Iterator[tuple[nnx.Param[jax.Array], np.ndarray]]:
    """Yield parameters and their values. Keras orders axes as flax does: height, width(, depth), in, out."""
    group = file[name].get(name.replace("_reflective", ""), {})
    for part, variable in (("kernel:0", conv.conv.kernel), ("bias:0", conv.conv.bias)):
        if variable is None:
            continue
        if part not in group:
            raise ConfigurationError(f"{file.filename} has no {part} of the layer {name}: use the file as published")
        values = np.asarray(group[part], dtype=np.float32)
        if values.shape != variable.shape:
            raise ConfigurationError(
                f"{part} of the layer {name} in {file.filename} has the shape {values.shape}: this network needs"
                f" {variable.shape}"
            )
        yield variable, values


def _difference(found: set[str], expected: set[str]) -> str:
    missing, extra = sorted(expected - found), sorted(found - expected)
    texts = []
    if missing:
        texts.append(f"it lacks {len(missing)} of {len(expected)} layers, such as {missing[0]}")
    if extra:
        texts.append(f"it has {len(extra)} others, such as {extra[0]}")
    return "; ".join(texts)
