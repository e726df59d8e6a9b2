"""NSID files (HDF5, of the Pycroscopy family).

They are read with h5py alone: sidpy and pyNSID would load dask and half a scientific stack to hand over the same
arrays, and know axes only by the names and units that they have in the file. What is a main dataset, and which of its
axes are what, follows their definition: a dataset with a quantity, and a scale with a quantity for each dimension.

The first of two spatial axes is x, as in sidpy; an axis that goes down is turned round. Values belong to the positions
of the axes, so that the frame is one step larger than the distance between the first and the last.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from twinscope.drivers.replay.readers import asylum
from twinscope.drivers.replay.readers.contents import Contents, check_size, damaged, file_size, foreign
from twinscope.drivers.replay.readers.hdf5 import HdfAxis, attribute, axes_of, check_stored, plain_attributes
from twinscope.drivers.replay.readers.names import Names, split_direction
from twinscope.drivers.replay.readers.options import ReadingOptions
from twinscope.drivers.replay.readers.sweeps import spectrum_channel, swept_signal
from twinscope.drivers.replay.readers.units import SiUnit, si_unit
from twinscope.drivers.replay.recording import RecordedImage, RecordedSpectra
from twinscope.errors import StoreError
from twinscope.requests import ScanFrame

# Groups and datasets that one file may have.
_MOST_ITEMS = 10_000
# Bytes of a value, at most: they become float64 when their unit needs it.
_BYTES_EACH = 8
# Bytes that all datasets of one file may have together.
_LARGEST_SUM = 2**31


def read(path: Path, options: ReadingOptions) -> Contents:
    """Read all images, stacks of images, spectra and spectral images of a file.

    Of the options, `keep_units` says that wrong units stay as they are.
    """
    file_size(path)
    contents = Contents()
    names = Names()
    with foreign(path, "h5py"), h5py.File(path, "r", locking=False) as file:
        for dataset in _readable(path, contents, _main_datasets(path, file)):
            settings = _settings(dataset)
            if settings is not None and not contents.metadata:
                contents.metadata = plain_attributes(settings)
            _Dataset(path, contents, names, dataset, options.keep_units).add()
    return contents


def _readable(path: Path, contents: Contents, datasets: Iterator[h5py.Dataset]) -> Iterator[h5py.Dataset]:
    """Leave out what holds no real numbers, and check the size of the others, also of all together, before each."""
    size = 0
    for dataset in datasets:
        if dataset.dtype.kind not in "fiu":
            contents.warn(f"{dataset.name} is left out: its values are {dataset.dtype}, expected real numbers")
            continue
        check_size(path, dataset.shape, _BYTES_EACH)
        check_stored(path, dataset)
        size += math.prod(dataset.shape) * _BYTES_EACH
        if size > _LARGEST_SUM:
            raise StoreError(
                f"{path} cannot be read: its datasets up to {dataset.name} have {size / 1e9:.3g} GB together, expected"
                f" at most {_LARGEST_SUM / 1e9:.3g} GB: write it as several files",
                path=str(path),
            )
        yield dataset


def _main_datasets(path: Path, file: h5py.File) -> Iterator[h5py.Dataset]:
    """Find what is measured, in the order of the file; a group that contains itself is looked at once."""
    waiting: list[h5py.Group] = [file]
    seen = set()
    items = 0
    while waiting:
        group = waiting.pop(0)
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        for name in group:
            items += 1
            if items > _MOST_ITEMS:
                raise damaged(path, f"it has more than {_MOST_ITEMS} groups and datasets")
            # Links to other files are not followed.
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset) and {"quantity", "units", "main_data_name"} <= set(item.attrs):
                yield item


def _settings(dataset: h5py.Dataset) -> h5py.Group | None:
    """Return what the instrument wrote about a dataset."""
    for group in (dataset.parent, dataset.parent.parent):
        for name in ("original_metadata", "metadata"):
            found = group.get(name)
            if isinstance(found, h5py.Group):
                return found
    return None


class _Dataset:
    """One main dataset, and where it is to be added."""

    def __init__(
        self,
        path: Path,
        contents: Contents,
        names: Names,
        dataset: h5py.Dataset,
        keep_units: bool,
    ) -> None:
        self._path = path
        self._contents = contents
        self._names = names
        self._dataset = dataset
        self._quantity = attribute(dataset, "quantity") or dataset.name.rpartition("/")[2]
        self._unit = self._right_unit(keep_units)

    def add(self) -> None:
        """Add what it holds; what is neither image nor spectra is left out with a warning."""
        dataset = self._dataset
        axes = axes_of(self._path, dataset)
        spatial = [index for index, axis in enumerate(axes) if axis.kind == "SPATIAL"]
        other = [index for index in range(len(axes)) if index not in spatial]
        if len(spatial) == 2 and not other:
            self._add_image(dataset[...], axes, spatial)
        elif len(spatial) == 2 and len(other) == 1 and axes[other[0]].kind != "SPECTRAL":
            self._add_series(dataset[...], axes, spatial, other[0])
        elif len(spatial) in (0, 2) and len(other) == 1:
            self._add_spectra(dataset[...], axes, spatial, other[0])
        else:
            described = ", ".join(f"{axis.name} ({axis.kind.lower()})" for axis in axes)
            self._contents.warn(f"{dataset.name} is left out: its axes are {described}, expected an image or spectra")

    def _right_unit(self, keep_units: bool) -> str:
        """Return the unit of the values: files made from those of Asylum instruments say "m" where they know none."""
        said = attribute(self._dataset, "units")
        right = asylum.unit_of(self._quantity)
        if keep_units or right is None or said != "m" or right == "m":
            return said
        self._contents.warn(f"the unit of {self._quantity!r} is {said!r} in the file: it was corrected to {right!r}")
        return right

    def _line_time(self) -> float | None:
        settings = _settings(self._dataset)
        return None if settings is None else asylum.line_time(settings.attrs)

    def _add_image(self, values: np.ndarray, axes: list[HdfAxis], spatial: list[int], time: float = 0.0) -> None:
        fast, slow = self._lateral(axes, spatial)
        image = np.transpose(values, [spatial.index(slow), spatial.index(fast)])
        (x, along), (y, across) = self._positions(axes[fast]), self._positions(axes[slow])
        frame = ScanFrame(
            size=(along * len(x), across * len(y)), center=(float(x[[0, -1]].mean()), float(y[[0, -1]].mean()))
        )
        base, way = split_direction(self._quantity)
        direction = way or "forward"
        si, scaled = self._contents.to_si(self._quantity, self._unit, image)
        self._contents.images.append(
            RecordedImage(
                name=self._names.image(base, direction, time),
                unit=si,
                quantity=self._quantity,
                data=scaled[:: _step(axes[slow]), :: _step(axes[fast])],
                frame=frame,
                direction=direction,
                time=time,
                line_time=self._line_time(),
            )
        )

    def _add_series(self, values: np.ndarray, axes: list[HdfAxis], spatial: list[int], other: int) -> None:
        axis = axes[other]
        _, _, times = swept_signal(self._contents, axis.name, axis.values, axis.unit)
        if axis.kind != "TEMPORAL":
            self._contents.warn(f"{self._quantity!r} is a stack along {axis.name!r}: it is taken for a time series")
            times = np.arange(len(times), dtype=float)
        for time, frame in zip(times - times[0], np.moveaxis(values, other, 0), strict=True):
            self._add_image(frame, axes, spatial, float(time))

    def _add_spectra(self, values: np.ndarray, axes: list[HdfAxis], spatial: list[int], other: int) -> None:
        axis = axes[other]
        label = axis.quantity if axis.quantity.lower() in ("bias", "voltage") else axis.name
        swept, swept_unit, swept_values = swept_signal(self._contents, label, axis.values, axis.unit)
        positions = np.zeros((1, 2))
        traces = values[None]
        if spatial:
            fast, slow = self._lateral(axes, spatial)
            x, y = np.meshgrid(self._positions(axes[fast])[0], self._positions(axes[slow])[0])
            positions = np.stack([x.ravel(), y.ravel()], axis=-1)
            image = np.transpose(values, [slow, fast, other])[:: _step(axes[slow]), :: _step(axes[fast])]
            traces = image.reshape(len(positions), -1)
        else:
            self._contents.warn(f"the file does not say where {self._quantity!r} was taken: x = y = 0 is assumed")
        channel, scaled = spectrum_channel(self._contents, self._names, self._quantity, traces, self._unit)
        self._contents.spectra.append(
            RecordedSpectra(
                channels=(channel,),
                swept=swept,
                swept_unit=swept_unit,
                values=swept_values,
                data=scaled[:, None],
                positions=positions,
            )
        )

    def _lateral(self, axes: list[HdfAxis], spatial: list[int]) -> tuple[int, int]:
        """Which axis is the fast one, x, and which the slow one, y."""
        by_name = {axes[index].name.lower(): index for index in spatial}
        if {"x", "y"} <= set(by_name):
            return by_name["x"], by_name["y"]
        named = [axes[index].name for index in spatial]
        self._contents.warn(f"the axes of {self._quantity!r} are {named}: the first is taken for x")
        return spatial[0], spatial[1]

    def _positions(self, axis: HdfAxis) -> tuple[np.ndarray, float]:
        """Positions along an axis in m, from the smallest, and their distance."""
        values = axis.values[:: _step(axis)] * self._lateral_unit(axis).factor
        step = float(values[-1] - values[0]) / (len(values) - 1) if len(values) > 1 else 0.0
        ideal = values[0] + step * np.arange(len(values))
        if not step > 0 or not np.allclose(values, ideal, rtol=0, atol=0.01 * step):
            raise damaged(self._path, f"the axis {axis.name!r} of {self._dataset.name} is not equidistant")
        return values, step

    def _lateral_unit(self, axis: HdfAxis) -> SiUnit:
        """Return the unit of a spatial axis; files made from those of Asylum instruments give axes that of the values.

        Raises
        ------
        StoreError
            When it is no length.
        """
        unit = si_unit(axis.unit)
        if unit.name == "m":
            return unit
        if asylum.unit_of(self._quantity) is None:
            raise StoreError(
                f"{self._path} cannot be replayed: the axis {axis.name!r} of {self._quantity!r} is in {axis.unit!r},"
                " expected a length",
                path=str(self._path),
            )
        self._contents.warn(
            f"the unit of the axis {axis.name!r} of {self._quantity!r} is {axis.unit!r} in the file: it was corrected"
            " to 'm'"
        )
        return SiUnit("m")


def _step(axis: HdfAxis) -> int:
    return -1 if axis.values[-1] < axis.values[0] else 1
