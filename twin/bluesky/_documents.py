"""What the documents of an acquisition say: its configuration, and where its data are."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from bluesky.protocols import Reading, StreamAsset
from event_model import ComposeStreamResource, StreamRange
from event_model.documents.event_descriptor import DataKey, Dtype

from twinscope.acquisition import Acquisition
from twinscope.capabilities import Capabilities
from twinscope.requests import AcquisitionRequest, PathRequest, ScanRequest, SpectroscopyRequest, setpoint_of
from twinscope.results import axes_of, recorded_name
from twinscope.storage._layout import dataset_paths

HDF5 = "application/x-hdf5"
"""Type of our files."""

_UNITS = {
    "frame_size": "m",
    "frame_center": "m",
    "frame_angle": "deg",
    "heights": "m",
    "height": "m",
    "positions": "m",
    "line_time": "s",
    "point_time": "s",
}
_DTYPES: Mapping[str, Dtype] = {"U": "string", "b": "boolean", "i": "integer", "f": "number"}


def described_configuration(
    name: str, source: str, request: AcquisitionRequest, capabilities: Capabilities
) -> dict[str, DataKey]:
    """Describe each parameter of a request."""
    units = _UNITS | _units_of(request, capabilities)
    keys = {}
    for field, value in _flat(request.to_dict()):
        array = np.asarray(value)
        dtype = "array" if array.ndim else _DTYPES[array.dtype.kind]
        key = DataKey(source=source, dtype=dtype, dtype_numpy=array.dtype.str, shape=list(array.shape))
        if field in units:
            key["units"] = units[field]
        keys[f"{name}-{field}"] = key
    return keys


def read_configuration(name: str, request: AcquisitionRequest, timestamp: float) -> dict[str, Reading[Any]]:
    """Return each parameter of a request; what is left open has no reading."""
    return {f"{name}-{field}": Reading(value=value, timestamp=timestamp) for field, value in _flat(request.to_dict())}


def described_recordings(
    name: str, source: str, request: AcquisitionRequest, capabilities: Capabilities
) -> dict[str, DataKey]:
    """Describe the array of each recording, by its name in documents."""
    axes = axes_of(request)
    directions = request.directions if isinstance(request, ScanRequest) else ("forward",)
    return {
        f"{name}-{recorded_name(channel, direction)}": DataKey(
            source=source,
            dtype="array",
            dtype_numpy="<f4",
            shape=[len(axis.values) for axis in axes],
            dims=[axis.name for axis in axes],
            units=capabilities.channel(channel).unit,
        )
        for direction in directions
        for channel in request.channels
    }


def stream_documents(
    name: str, acquisition: Acquisition, index: int, root_map: Mapping[str, str]
) -> Iterator[StreamAsset]:
    """Yield the documents that say where the data of an acquisition are.

    Each acquisition has a file of its own, so each has its own resources; the indices of their data go on counting, as
    consumers put the files of a data key one behind the other.

    Parameters
    ----------
    name
        Of the device.
    acquisition
        One that is complete.
    index
        How many the device has reported before since it was staged.
    root_map
        See :class:`SpmLink`.
    """
    shape = [len(axis.values) for axis in axes_of(acquisition.request)]
    compose = ComposeStreamResource()
    bundles = [
        compose(
            mimetype=HDF5,
            uri=file_uri(acquisition.file, root_map),
            data_key=f"{name}-{recorded}",
            parameters={"dataset": path, "chunk_shape": shape, "swmr": False},
        )
        for recorded, path in dataset_paths(acquisition.request).items()
    ]
    for bundle in bundles:
        yield "stream_resource", bundle.stream_resource_doc
    for bundle in bundles:
        yield "stream_datum", bundle.compose_stream_datum(StreamRange(start=index, stop=index + 1))


def file_uri(path: str, root_map: Mapping[str, str]) -> str:
    """Make the URI of a file on the server, in the folders of those who read the documents."""
    for theirs, ours in root_map.items():
        root = theirs.rstrip("/\\")
        if path.startswith((f"{root}/", f"{root}\\")):
            path = ours.rstrip("/\\") + path[len(root) :].replace("\\", "/")
            break
    is_windows = re.match(r"[A-Za-z]:[\\/]", path) is not None
    place = PureWindowsPath(path) if is_windows else PurePosixPath(path)
    return place.as_uri().replace("file:///", "file://localhost/", 1)


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield names and values, without those that are None."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}_")
        elif value is not None:
            yield f"{prefix}{key}", value


def _units_of(request: AcquisitionRequest, capabilities: Capabilities) -> dict[str, str]:
    """Units of those parameters that have not always the same."""
    if isinstance(request, SpectroscopyRequest):
        unit = capabilities.limits[request.swept].unit
        return {"sweep_start": unit, "sweep_stop": unit}
    if isinstance(request, ScanRequest | PathRequest) and request.setpoint is not None:
        return {"setpoint": capabilities.limits[setpoint_of(request.z_mode)].unit}
    return {}
