"""The layout of a file: what stands where in HDF5; :mod:`twinscope.storage.store` says why.

The structure is that of NSID, of the Pycroscopy family, with a group ``progress`` beside the data.
"""

import contextlib
import hashlib
import itertools
import json
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from twinscope._version import __version__
from twinscope.capabilities import Channel
from twinscope.requests import AcquisitionRequest, ScanRequest
from twinscope.results import Axis, axes_of, recorded_name
from twinscope.state import JobState

# Room for the closing JSON, which is written in place; the checksums have theirs beside it.
_END_BYTES = 16384
# Of an error with more letters, the rest is left out of the file when the room is short.
_ERROR_LETTERS = 1000
# Checksums are computed over blocks of about this size, in bytes.
_BLOCK_BYTES = 2**24
# Viewers look for the version of the layout in this attribute.
_NSID_VERSION = "0.0.7"


def read_metadata(file: h5py.File) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the metadata, with how the acquisition ended, and the checksums by the name of the dataset."""
    metadata = json.loads(file.attrs["metadata"])
    metadata["traces_done"] = int(file["progress/traces_done"][()])
    end: dict[str, Any] = {"state": JobState.RUNNING.value, "error": None, "warnings": []}
    # It is empty until the end; of a computer that lost its power it may be a half.
    with contextlib.suppress(ValueError):
        end = json.loads(bytes(file["progress/end"][...]).rstrip(b"\0"))
    # `complete` is for other readers; ours tell it from the state.
    end.pop("complete", None)
    checksums: dict[str, str] = end.pop("checksums", {})
    return metadata | end, checksums


def write_end(
    file: h5py.File, state: str, error: str | None, warnings: list[str], checksums: Mapping[str, str]
) -> None:
    """Write how the acquisition ended, in place; what is too long is shortened."""
    room = file["progress/end"]
    end = {"state": state, "complete": state == JobState.DONE, "error": error, "warnings": warnings}
    text = json.dumps(end | {"checksums": checksums}).encode()
    if len(text) > len(room):
        short = {"error": error and error[:_ERROR_LETTERS], "warnings": [f"{len(warnings)} warnings"]}
        text = json.dumps(end | short | {"checksums": checksums}).encode()
    room[: len(text)] = np.frombuffer(text, np.uint8)


def checksum(dataset: h5py.Dataset) -> str:
    """Return the SHA-256 of the data as they are stored, in hexadecimal."""
    digest = hashlib.sha256()
    rows = max(1, _BLOCK_BYTES * len(dataset) // dataset.nbytes)
    for first in range(0, len(dataset), rows):
        digest.update(np.ascontiguousarray(dataset[first : first + rows], "<f4").data)
    return digest.hexdigest()


def datasets_of(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return the datasets by the name of what they hold."""
    found = {}
    for group in file["Measurement_000"].values():
        for name, inner in group.items():
            found[name] = inner[name]
    return found


def write_structure(
    file: h5py.File, request: AcquisitionRequest, channels: tuple[Channel, ...], metadata: Mapping[str, Any]
) -> dict[str, h5py.Dataset]:
    """Write everything but the data; returns the datasets by the name of what they hold."""
    file.attrs.update(
        {
            "twinscope": __version__,
            "id": metadata["id"],
            "kind": request.kind,
            "created": metadata["created"],
            "metadata": json.dumps(dict(metadata)),
        }
    )
    progress = file.create_group("progress")
    progress["traces_done"] = np.int64(0)
    axes = axes_of(request)
    paths = dataset_paths(request)
    # A checksum is 64 letters and stands behind the name, in quotes, with a colon and a comma.
    checksums = sum(len(json.dumps(name)) + 70 for name in paths)
    progress["end"] = np.zeros(_END_BYTES + checksums, np.uint8)
    # All channels forward come before all channels backward.
    return {
        name: _write_channel(file.create_group(path.rpartition("/")[0]), name, channel, axes, metadata)
        for (name, path), channel in zip(paths.items(), itertools.cycle(channels))
    }


def dataset_paths(request: AcquisitionRequest) -> dict[str, str]:
    """Tell where in a file each dataset is that a request gives, by the name of what it holds."""
    directions = request.directions if isinstance(request, ScanRequest) else ("forward",)
    names = [recorded_name(channel, direction) for direction in directions for channel in request.channels]
    return {name: f"/Measurement_000/Channel_{index:03d}/{name}/{name}" for index, name in enumerate(names)}


def _write_channel(
    group: h5py.Group, name: str, channel: Channel, axes: tuple[Axis, ...], metadata: Mapping[str, Any]
) -> h5py.Dataset:
    shape = tuple(len(axis.values) for axis in axes)
    # Early allocation puts the NaNs on disk now; afterwards the file's structure never changes.
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.CONTIGUOUS)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_value(np.array(np.nan, "<f4"))
    space = h5py.h5s.create_simple(shape)
    dataset = h5py.Dataset(h5py.h5d.create(group.id, name.encode(), h5py.h5t.IEEE_F32LE, space, plist))
    image = axes[-1].name == "x"
    instrument = metadata["instrument"]
    dataset.attrs.update(
        {
            "quantity": channel.quantity,
            "units": channel.unit,
            "data_type": {2: "IMAGE", 3: "IMAGE_STACK"}[len(shape)] if image else "SPECTRUM",
            "main_data_name": name,
            "modality": "AFM",
            "source": f"{instrument['driver']} {instrument['driver_version']}",
            "title": name,
            "machine_id": instrument["instrument"],
            "nsid_version": _NSID_VERSION,
            "pyNSID_version": _NSID_VERSION,
        }
    )
    for index, axis in enumerate(axes):
        scale = group.create_dataset(axis.name, data=np.asarray(axis.values, float))
        kind = "SPATIAL" if image else "SPECTRAL"
        scale.attrs.update({"name": axis.name, "quantity": axis.quantity, "units": axis.unit, "dimension_type": kind})
        scale.make_scale(axis.name)
        dataset.dims[index].label = axis.name
        dataset.dims[index].attach_scale(scale)
    return dataset
