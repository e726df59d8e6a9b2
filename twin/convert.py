"""Conversion of results to the arrays of other packages."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscope._optional import import_optional
from twinscope.results import ChannelData, Measurement

if TYPE_CHECKING:
    import sidpy
    import xarray


def to_xarray(measurement: Measurement) -> "xarray.Dataset":
    """See :meth:`Measurement.to_xarray`."""
    xr: Any = import_optional("xarray", "interop")
    variables = {
        name: ([axis.name for axis in data.axes], data.values, {"units": data.unit, "long_name": data.quantity})
        for name, data in measurement.items()
    }
    axes = {axis.name: axis for data in measurement.values() for axis in data.axes}
    coordinates = {
        name: (name, axis.values, {"units": axis.unit, "long_name": axis.quantity}) for name, axis in axes.items()
    }
    dataset: xarray.Dataset = xr.Dataset(variables, coordinates, {"metadata": json.dumps(dict(measurement.metadata))})
    return dataset


def to_sidpy(measurement: Measurement, data: ChannelData) -> "sidpy.Dataset":
    """See :meth:`Measurement.to_sidpy`."""
    sid: Any = import_optional("sidpy", "interop")
    dataset: sidpy.Dataset = sid.Dataset.from_array(np.array(data.values), title=data.name)
    dataset.quantity, dataset.units = data.quantity, data.unit
    dataset.modality = "AFM"
    dataset.source = measurement.metadata["instrument"]["driver"]
    dataset.metadata = dict(measurement.metadata)
    image_like = len(data.axes) > 1 and data.axes[-1].name == "x"
    dataset.data_type = ("IMAGE_STACK" if len(data.axes) == 3 else "IMAGE") if image_like else "SPECTRUM"
    for index, axis in enumerate(data.axes):
        kind = "SPATIAL" if axis.name in ("x", "y") or image_like else "SPECTRAL"
        dimension = sid.Dimension(
            axis.values, name=axis.name, quantity=axis.quantity, units=axis.unit, dimension_type=kind
        )
        dataset.set_dimension(index, dimension)
    return dataset
