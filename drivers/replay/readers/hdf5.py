"""HDF5 files as h5py shows them, without trust in what they say about themselves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from twinscope.drivers.replay.readers.contents import check_size, damaged

# By how much the filters of HDF5 can shorten data: that of deflate.
_LARGEST_RATIO = 1100
# Letters of an attribute that are kept.
_LONGEST_TEXT = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class HdfAxis:
    """A dimension scale, with the words that sidpy has for it.

    Attributes
    ----------
    name, quantity, unit
        As in the file; empty where it says nothing.
    kind
        "SPATIAL", "SPECTRAL", "TEMPORAL", ... or "UNKNOWN".
    values
        One per element.
    """

    name: str
    quantity: str
    unit: str
    kind: str
    values: np.ndarray


def attribute(item: h5py.Dataset | h5py.Group, name: str) -> str:
    """Return an attribute as text; nothing when there is none."""
    value = item.attrs.get(name, "")
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()


def plain_attributes(group: h5py.Group) -> dict[str, Any]:
    """Return the attributes of a group that are numbers or text, as plain data."""
    found: dict[str, Any] = {}
    for name, value in group.attrs.items():
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str):
            found[name] = value[:_LONGEST_TEXT]
        elif isinstance(value, np.generic) and value.dtype.kind in "fiub":
            found[name] = value.item()
    return found


def check_stored(path: Path, dataset: h5py.Dataset) -> None:
    """Raise :class:`StoreError` when a dataset says that it is much larger than what is stored of it."""
    stored = dataset.id.get_storage_size()
    if dataset.external or dataset.is_virtual:
        raise damaged(path, f"{dataset.name} is in other files")
    if dataset.nbytes > stored * (_LARGEST_RATIO if dataset.chunks else 1):
        raise damaged(path, f"{dataset.name} has the shape {dataset.shape}, but only {stored} bytes of it are there")


def axes_of(path: Path, dataset: h5py.Dataset) -> list[HdfAxis]:
    """Return the axes of a dataset, in the order of its dimensions."""
    return [_axis(path, dataset, index) for index in range(dataset.ndim)]


def _axis(path: Path, dataset: h5py.Dataset, index: int) -> HdfAxis:
    scales = dataset.dims[index]
    count = dataset.shape[index]
    if not len(scales):
        raise damaged(path, f"the dimension {index} of {dataset.name} has no axis")
    scale = scales[0]
    if scale.shape != (count,) or scale.dtype.kind not in "fiu":
        raise damaged(path, f"the axis {scale.name} has the shape {scale.shape}, expected {(count,)} numbers")
    check_size(path, scale.shape)
    check_stored(path, scale)
    values = np.asarray(scale[...], float)
    if not np.isfinite(values).all():
        raise damaged(path, f"the axis {scale.name} is not finite everywhere")
    name = attribute(scale, "name") or scale.name.rpartition("/")[2]
    # Newer versions of sidpy write the kind as "SPATIAL", older ones as a number or in small letters.
    kind = attribute(scale, "dimension_type").upper().rpartition(".")[2] or "UNKNOWN"
    return HdfAxis(name, attribute(scale, "quantity"), attribute(scale, "units"), kind, values)
