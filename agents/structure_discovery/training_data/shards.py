"""Training data on disk: HDF5 files of a few hundred samples each, from which random batches are read quickly."""

import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from twinscope.agents.structure_discovery.training_data.batch import Batch
from twinscope.agents.structure_discovery.training_data.recipe import Recipe
from twinscope.errors import InvalidRequestError, StoreError

_FORMAT = "twinscope training data 1"
_PATTERN = "shard-*.h5"
_NAMES = tuple(field.name for field in fields(Batch))
# Images are stored as 16-bit integers between the lowest and the highest value of each: half floats would round away
# the weak contrast of far slices, which is normalised later.
_IMAGES = ("force_gradient", "maps")
_LOW, _STEP = "_low", "_step"
_LARGEST_CODE = 2**16 - 1


def write_shards(
    folder: str | Path,
    batches: Iterable[Batch],
    *,
    recipe: Recipe,
    seed: int,
    first: int | None = None,
    notes: dict[str, Any] | None = None,
) -> int:
    """Write batches into a folder, one file for each, as they come.

    Parameters
    ----------
    folder
        Made if it is not there.
    batches
        A few hundred samples each make files of some 100 MB.
    recipe, seed
        What the samples were made with; they are stored with them, and so are the versions of the software.
    first
        Number of the first file; unless given, files are added after those that are there already.
    notes
        Further plain data to be stored.

    Returns
    -------
    int
        Number of samples that were written.

    Raises
    ------
    InvalidRequestError
        When a batch is empty, or its arrays do not fit together or are not finite.
    StoreError
        When a file cannot be written.
    """
    folder = Path(folder)
    metadata = json.dumps(
        {"recipe": recipe.to_dict(), "seed": seed, "versions": _versions(), "notes": notes or {}}, sort_keys=True
    )
    begin = 1 + max(shard_numbers(folder), default=-1) if first is None else first
    written = 0
    for number, batch in enumerate(batches, start=begin):
        batch.check()
        if len(batch) == 0:
            raise InvalidRequestError("a batch has no samples: nothing can be written of it")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / f"shard-{number:05d}.h5", batch, metadata)
        except OSError as exc:
            raise StoreError(f"training data cannot be written into {folder}: {exc}") from exc
        written += len(batch)
    return written


def shard_numbers(folder: str | Path) -> set[int]:
    """Return the numbers of the files that :func:`write_shards` has written into a folder, if there is one."""
    return {int(path.stem.rpartition("-")[2]) for path in Path(folder).glob(_PATTERN)}


class Shards:
    """Training data that were written by :func:`write_shards`; a sequence of samples.

    Parameters
    ----------
    folder
        Where the files are. Files that are added later are not seen.

    Attributes
    ----------
    recipe, seed
        What the samples of the first file were made with.

    Raises
    ------
    StoreError
        When there are none, or they are not what they should be.
    """

    def __init__(self, folder: str | Path) -> None:
        paths = sorted(Path(folder).glob(_PATTERN))
        if not paths:
            raise StoreError(f"there are no training data in {folder}: expected files {_PATTERN}")
        self._files: list[h5py.File] = []
        try:
            for path in paths:
                self._files.append(_opened(path))
        except StoreError:
            self.close()
            raise
        self._ends = np.cumsum([len(file["numbers"]) for file in self._files])
        metadata = json.loads(self._files[0].attrs["metadata"])
        self.recipe = Recipe.from_dict(metadata["recipe"])
        self.seed = int(metadata["seed"])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Read samples, in the order of `indices`, which may repeat.

        Raises
        ------
        InvalidRequestError
            When an index is out of range, or there are none.
        """
        indices = np.asarray(indices, int)
        if indices.ndim != 1 or len(indices) == 0 or indices.min() < 0 or indices.max() >= len(self):
            raise InvalidRequestError(f"indices are {indices}: expected a list of numbers from 0 to {len(self) - 1}")
        shards = np.searchsorted(self._ends, indices, side="right")
        rows = indices - np.concatenate([[0], self._ends])[shards]
        parts, order = [], []
        for shard in np.unique(shards):
            places = np.flatnonzero(shards == shard)
            # HDF5 wants rising indices without repetitions.
            unique, back = np.unique(rows[places], return_inverse=True)
            parts.append(_read(self._files[shard], unique)[back])
            order.append(places)
        return Batch.joined(parts)[np.argsort(np.concatenate(order))]

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def __enter__(self) -> "Shards":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in ("twinscope", "jax", "numpy")}}


def _write(path: Path, batch: Batch, metadata: str) -> None:
    """Write one file under a temporary name, so that there is never half of one."""
    temporary = path.with_suffix(".part")
    with h5py.File(temporary, "w") as file:
        file.attrs["format"] = _FORMAT
        file.attrs["metadata"] = metadata
        for name in _NAMES:
            values = np.asarray(getattr(batch, name))
            if name in _IMAGES:
                codes, low, step = _encoded(values)
                file.create_dataset(name, data=codes)
                file.create_dataset(name + _LOW, data=low)
                file.create_dataset(name + _STEP, data=step)
            else:
                file.create_dataset(name, data=values)
    temporary.replace(path)


def _opened(path: Path) -> h5py.File:
    try:
        file = h5py.File(path, "r")
    except OSError as exc:
        raise StoreError(f"{path} cannot be read: {exc}") from exc
    if file.attrs.get("format") != _FORMAT:
        file.close()
        raise StoreError(f"{path} is no file of training data: expected the format {_FORMAT!r}")
    return file


def _read(file: h5py.File, rows: np.ndarray) -> Batch:
    """Read rows, which must rise."""
    first, last = int(rows[0]), int(rows[-1]) + 1

    def some(name: str) -> np.ndarray:
        dataset = file[name]
        # One row after the other is ten times faster than a list of them, whose selection h5py builds point by point.
        return dataset[first:last] if last - first == len(rows) else np.stack([dataset[row] for row in rows])

    columns = {}
    for name in _NAMES:
        values = some(name)
        if name in _IMAGES:
            values = values.astype(np.float32) * some(name + _STEP)[..., None, None]
            values += some(name + _LOW)[..., None, None]
        columns[name] = values
    return Batch(**columns)


def _encoded(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Round images (..., ny, nx) to integers: codes, and for each image the lowest value and the step."""
    low, high = images.min(axis=(-2, -1)), images.max(axis=(-2, -1))
    step = np.where(high > low, (high - low) / _LARGEST_CODE, 1).astype(np.float32)
    codes = np.rint((images - low[..., None, None]) / step[..., None, None])
    return np.clip(codes, 0, _LARGEST_CODE).astype(np.uint16), low, step
