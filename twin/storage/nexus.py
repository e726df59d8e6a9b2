"""Results as NeXus files, after the application definition NXspm.

It is that of FAIRmat (https://fairmat-nfdi.github.io/nexus_definitions, as pynxtools 0.16 brings it), which extends
NXsensor_scan. What we cannot know is not made up and is left out, though the definition asks for it: the user's name
when there was no lease, the temperatures of the microscope, and the sensors of current and bias. Measurements that are
no mesh are foreseen only over the bias: spectra and profiles have their data, their positions and no ``mesh_scan``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from twinscope._version import __version__
from twinscope.requests import ScanRequest
from twinscope.results import ChannelData, Measurement
from twinscope.storage._disk import new_hdf5

VERSION = "v2024.02-2011-gaf199a51"
"""Of the NeXus definitions."""

DEFINITION = "https://fairmat-nfdi.github.io/nexus_definitions/classes/contributed_definitions/NXspm.html"
"""Where NXspm is described."""


def write(measurement: Measurement, path: Path) -> None:
    """Write a new NeXus file.

    Parameters
    ----------
    measurement
        Each channel becomes an NXdata with its axes; what else is known stands as JSON in ``entry/metadata``.
    path
        The file; it must not exist.

    Raises
    ------
    OSError
        When it cannot be written; nothing is left of it.
    """
    with new_hdf5(path) as file:
        file.attrs.update({"NX_class": "NXroot", "default": "entry", "file_name": path.name, "creator": "twinscope"})
        entry = _group(file, "entry", "NXentry")
        _describe(entry, measurement)
        _write_instrument(_group(entry, "instrument", "NXinstrument"), measurement)
        for name, data in measurement.items():
            _write_data(_group(entry, name, "NXdata"), data)
        entry.attrs["default"] = next(iter(measurement))


def _describe(entry: h5py.Group, measurement: Measurement) -> None:
    metadata = measurement.metadata
    known = {
        "title": f"{metadata['kind']} {metadata['id']}",
        "experiment_technique": "AFM",
        "identifier_experiment": metadata["id"],
        "start_time": metadata["created"],
        "experiment_description": metadata.get("purpose"),
        "scan_type": getattr(measurement.request, "direction", "forward"),
    }
    z_mode = getattr(measurement.request, "z_mode", None)
    _fill(entry, known | {"definition": "NXspm", "scan_mode": z_mode and z_mode.replace("_", " ")})
    entry["definition"].attrs.update({"version": VERSION, "URL": DEFINITION})
    _fill(_group(entry, "process", "NXprocess"), {"program": "twinscope"})
    entry["process/program"].attrs.update({"version": __version__, "program_url": "https://pypi.org/project/twinscope"})
    if metadata.get("operator"):
        _fill(_group(entry, "user", "NXuser"), {"name": metadata["operator"]})
    # NXnote holds bytes.
    text = np.bytes_(json.dumps(dict(metadata)))
    _fill(_group(entry, "metadata", "NXnote"), {"type": "application/json", "data": text})


def _write_instrument(group: h5py.Group, measurement: Measurement) -> None:
    known = measurement.metadata["instrument"]
    hardware = {"name": known["instrument"], "vendor": known["driver"], "model": known["instrument"]}
    _fill(_group(group, "hardware", "NXfabrication"), hardware)
    software = {"vendor": "twinscope", "model": f"driver {known['driver']} {known['driver_version']}"}
    _fill(_group(group, "software", "NXfabrication"), software)
    environment = _group(group, "scan_environment", "NXenvironment")
    control = _group(environment, "scan_control", "NXspm_scan_control")
    region = _group(control, "scan_region", "NXspm_scan_region")
    request = measurement.request
    if isinstance(request, ScanRequest):
        control["scan_type"] = "mesh"
        _fill(region, _frame(request))
        _fill(_group(control, "mesh_scan", "NXspm_scan_pattern"), _mesh(request))
    else:
        positions = np.array(request.positions)
        control["scan_type"] = "trajectory"
        _fill(region, _ends(positions[0], positions[-1]))
        pattern = _group(control, "traj_scan", "NXspm_scan_pattern")
        _fill(pattern, {"trajectory_points": (positions, "m"), "number_of_trajectory_points": len(positions)})


def _frame(request: ScanRequest) -> dict[str, Any]:
    frame = request.frame
    first, _, last, _ = frame.corners()
    lengths = {
        **{f"scan_range_{axis}": (frame.size[i], "m") for i, axis in enumerate("xy")},
        **{f"scan_offset_value_{axis}": (frame.center[i], "m") for i, axis in enumerate("xy")},
    }
    return {**lengths, **_ends(first, last), "scan_angle_x": (frame.angle, "deg"), "scan_angle_y": (frame.angle, "deg")}


def _ends(first: np.ndarray, last: np.ndarray) -> dict[str, Any]:
    starts = {f"scan_start_{axis}": (first[i], "m") for i, axis in enumerate("xy")}
    return starts | {f"scan_end_{axis}": (last[i], "m") for i, axis in enumerate("xy")}


def _mesh(request: ScanRequest) -> dict[str, Any]:
    points = {f"scan_points_{axis}": request.pixels[i] for i, axis in enumerate("xy")}
    steps = {f"step_size_{axis}": (request.frame.size[i] / request.pixels[i], "m") for i, axis in enumerate("xy")}
    return points | steps


def _write_data(group: h5py.Group, data: ChannelData) -> None:
    group.attrs.update({"signal": "data", "axes": [axis.name for axis in data.axes]})
    group["title"] = data.name
    _fill(group, {"data": (data.values, data.unit)})
    group["data"].attrs["long_name"] = data.quantity
    for index, axis in enumerate(data.axes):
        _fill(group, {axis.name: (axis.values, axis.unit)})
        group[axis.name].attrs["long_name"] = axis.quantity
        group.attrs[f"{axis.name}_indices"] = index


def _group(parent: h5py.Group, name: str, kind: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    return group


def _fill(group: h5py.Group, fields: Mapping[str, Any]) -> None:
    """Write fields: values, or pairs of a value and its unit; None is left out."""
    for name, field in fields.items():
        value, unit = field if isinstance(field, tuple) else (field, None)
        if value is not None:
            group[name] = value
        if unit is not None:
            # Of a number without a unit, NeXus leaves the unit empty.
            group[name].attrs["units"] = "" if unit == "1" else unit
