"""Images and maps as files: PNG, TIFF and NumPy in, TIFF out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from twinscope._optional import import_optional
from twinscope.errors import InvalidRequestError, StoreError

_TIFF = (".tif", ".tiff")
_BRIGHTNESS = (0.299, 0.587, 0.114)


def read_picture(path: str | Path) -> np.ndarray:
    """Read an image (ny, nx): TIFF, NumPy's ``.npy``, or whatever Pillow reads; colours become their brightness.

    Raises
    ------
    InvalidRequestError
        When the file is no image.
    MissingPackageError
        When a package is not there that reads it.
    """
    path = Path(path)
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        elif path.suffix.lower() in _TIFF:
            values = import_optional("tifffile", "agents", "reading TIFF").imread(path)
        else:
            with import_optional("PIL.Image", "agents", "reading pictures").open(path) as image:
                values = np.asarray(image if image.mode in ("L", "I", "F", "I;16") else image.convert("RGB"))
    except (OSError, ValueError) as exc:
        raise InvalidRequestError(f"{path} cannot be read as an image: {exc}") from exc
    if values.ndim == 3 and values.shape[-1] == len(_BRIGHTNESS):
        values = values @ np.array(_BRIGHTNESS)
    if values.ndim != 2:
        raise InvalidRequestError(f"{path} has the shape {values.shape}: expected one image, of rows and columns")
    return np.asarray(values, float)


def write_tiff(path: Path, maps: Sequence[np.ndarray] | np.ndarray) -> Path:
    """Write maps (n, ny, nx) as a TIFF of as many pages, in single precision.

    Raises
    ------
    StoreError
        When the file cannot be written.
    """
    try:
        import_optional("tifffile", "agents", "writing TIFF").imwrite(
            path, np.asarray(maps, np.float32), photometric="minisblack"
        )
    except OSError as exc:
        raise StoreError(f"{path} cannot be written: {exc}") from exc
    return path
