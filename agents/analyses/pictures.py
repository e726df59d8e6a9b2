"""Images as files and as scans, and maps as files: PNG, TIFF and NumPy in, PDF and TIFF out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twinscope._optional import import_optional
from twinscope.errors import InvalidRequestError, StoreError
from twinscope.results import Scan

_TIFF = (".tif", ".tiff")
_BRIGHTNESS = (0.299, 0.587, 0.114)


@dataclass(frozen=True, eq=False)
class Picture:
    """An image.

    Attributes
    ----------
    values
        Shape (ny, nx); NaN where nothing was measured.
    unit
        Of the values; "" where it is not known.
    pitch
        Distance of pixels along x, in m; None where it is not known.
    """

    values: np.ndarray
    unit: str = ""
    pitch: float | None = None

    @classmethod
    def from_scan(cls, scan: Scan, channel: str) -> "Picture":
        """Take a channel of a scan, the first direction of the first height.

        Raises
        ------
        UnknownChannelError
            When the scan has no such channel.
        """
        data = scan[channel]
        axes = {axis.name: axis.values for axis in data.axes}
        values = data.values.reshape(-1, *data.values.shape[-2:])[0]
        return cls(values, data.unit, float(abs(axes["x"][1] - axes["x"][0])))


def read_picture(path: str | Path) -> Picture:
    """Read an image: TIFF, NumPy's ``.npy``, or whatever Pillow reads; colours become their brightness.

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
    return Picture(np.asarray(values, float))


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
