"""Files as instruments write them, with content that is known."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np


def ramp(ny: int, nx: int, start: float = 0.0) -> np.ndarray:
    """Values that are all different, float32: `start` at the bottom left, then to the right, then up."""
    return (start + np.arange(ny * nx, dtype=np.float32)).reshape(ny, nx)


def sxm(
    channels: Sequence[tuple[str, str, str]],
    images: Sequence[np.ndarray],
    *,
    scan_dir: str = "up",
    angle: float = 0.0,
    extra: str = "",
    kind: str = "FLOAT            MSBFIRST",
    comment: str = "",
) -> bytes:
    """Write a scan of Nanonis; the images are as they are stored."""
    ny, nx = images[0].shape
    table = "".join(
        f"\t{14 + i}\t{name}\t{unit}\t{way}\t1.000E+0\t0.000E+0\n" for i, (name, unit, way) in enumerate(channels)
    )
    header = (
        f":NANONIS_VERSION:\n2\n:SCANIT_TYPE:\n              {kind}\n:REC_DATE:\n 16.06.2026\n"
        f":REC_TIME:\n14:41:56\n:REC_TEMP:\n      290.0000000000\n:ACQ_TIME:\n       64.0\n"
        f":SCAN_PIXELS:\n       {nx}       {ny}\n:SCAN_FILE:\nC:\\data\\scan001.sxm\n"
        ":SCAN_TIME:\n             5.000E-1             2.500E-1\n"
        ":SCAN_RANGE:\n           4.000000E-9           2.000000E-9\n"
        ":SCAN_OFFSET:\n             1.000000E-8        -2.000000E-8\n"
        f":SCAN_ANGLE:\n            {angle:.3E}\n:SCAN_DIR:\n{scan_dir}\n:BIAS:\n            5.000E-1\n"
        ":Z-CONTROLLER:\n\tName\ton\tSetpoint\tP-gain\tI-gain\tT-const\n"
        "\tlog Current\t1\t2.000E-11 A\t1E-11 m\t1E-8 m/s\t1E-3 s\n"
        f":COMMENT:\n{comment}\n{extra}:DATA_INFO:\n\tChannel\tName\tUnit\tDirection\tCalibration\tOffset\n{table}\n"
        ":SCANIT_END:\n\n\n"
    )
    order = "<f4" if "LSB" in kind else ">f4"
    return header.encode("utf-8") + b"\x1a\x04" + np.stack(images).astype(order).tobytes()


def dat(columns: Mapping[str, np.ndarray], *, position: tuple[float, float] | None = (1e-9, -2e-9)) -> bytes:
    """Write a spectrum of Nanonis."""
    place = "" if position is None else f"X (m)\t{position[0]:.5E}\t\r\nY (m)\t{position[1]:.5E}\t\r\n"
    rows = "".join("\t".join(f"{value:.7E}" for value in row) + "\r\n" for row in zip(*columns.values(), strict=True))
    header = (
        f"Experiment\tbias spectroscopy\t\r\nSaved Date\t27.06.2026 14:44:13\t\r\nUser\t\t\r\n{place}"
        "Z (m)\t-4.0566E-6\t\r\nZ-Ctrl hold\tTRUE\t\r\nFinal Z (m)\tN/A\t\r\n\r\n[DATA]\r\n"
    )
    return (header + "\t".join(columns) + "\r\n" + rows).encode()


def grid_3ds(
    channels: Sequence[str],
    spectra: np.ndarray,
    parameters: Mapping[str, np.ndarray],
    pixels: tuple[int, int],
    *,
    settings: str = "1.000000E-8;-2.000000E-8;4.000000E-9;2.000000E-9;0.000000E+0",
    extra: str = "",
    sweep: str = "Bias (V)",
) -> bytes:
    """Write a grid of Nanonis; `spectra` has the shape (positions, channels, points)."""
    _, _, points = spectra.shape
    experiment = ";".join(name for name in parameters if not name.startswith("Sweep"))
    header = (
        f'Grid dim="{pixels[0]} x {pixels[1]}"\r\nGrid settings={settings}\r\n{extra}Sweep Signal="{sweep}"\r\n'
        f'Fixed parameters="Sweep Start;Sweep End"\r\nExperiment parameters="{experiment}"\r\n'
        f"# Parameters (4 byte)={len(parameters)}\r\nExperiment size (bytes)={4 * points * len(channels)}\r\n"
        f'Points={points}\r\nChannels="{";".join(channels)}"\r\nDelay before measuring (s)=0.000000E+0\r\n'
        'Experiment="Grid Spectroscopy"\r\nStart time="21.10.2026 16:48:06"\r\nEnd time="21.10.2026 18:42:19"\r\n'
        "User=\r\nComment=\r\n:HEADER_END:\r\n"
    )
    first = np.stack(list(parameters.values()), axis=-1)
    records = np.concatenate([first, spectra.reshape(len(spectra), -1)], axis=1)
    return header.encode() + records.astype(">f4").tobytes()


def ibw(
    labels: Sequence[str], images: np.ndarray, note: Mapping[str, object], *, order: str = "<", unit: str = "m"
) -> bytes:
    """Write an Igor wave of version 5; `images` has the shape (channels, lines from the bottom, pixels)."""
    channels, ny, nx = images.shape
    values = images.transpose(2, 1, 0).astype(f"{order}f4").tobytes("F")
    text = "\r".join(f"{name}: {value}" for name, value in note.items()).encode()
    names = b"".join(name.encode().ljust(32, b"\0") for name in ("", *labels))
    wave = struct.pack(
        f"{order}4i2h6xh32si i 4i 4d 4d 4s16s 2h2d i4i4ii16i 3h2x 2i2h2i",
        *(0, 0, 0, images.size, 2, 0, 1, b"Image0000", 0, 0, nx, ny, channels, 0, *[1e-9] * 4, *[0.0] * 4),
        *(unit.encode(), b"m\0\0\0m\0\0\0", 0, 0, 0.0, 0.0, *[0] * 10, *[0] * 16, *[0] * 9),
    )
    sizes = (320 + len(values), 0, len(text), 0, 0, 0, 0, 0, 0, 0, len(names), 0, 0, 0, 0)
    unchecked = struct.pack(f"{order}2h15i", 5, 0, *sizes) + wave
    total = int(np.frombuffer(unchecked, f"{order}i2").sum(dtype=np.int64))
    checksum = (-total + 32768) % 65536 - 32768
    return struct.pack(f"{order}2h15i", 5, checksum, *sizes) + wave + values + text + names


def nsid(path: Path, datasets: Sequence[Mapping[str, object]]) -> None:
    """Write a file as pyNSID does: `values`, `quantity`, `units`, `axes` (name, unit, kind, values) of each dataset."""
    with h5py.File(path, "w") as file:
        for number, described in enumerate(datasets):
            group = file.create_group(f"Measurement_000/Channel_{number:03d}/generic")
            dataset = group.create_dataset("generic", data=described["values"])
            dataset.attrs.update(
                {"quantity": described["quantity"], "units": described["units"], "main_data_name": "generic"}
            )
            for index, (name, unit, kind, values) in enumerate(described["axes"]):  # type: ignore[arg-type]
                scale = group.create_dataset(name, data=values)
                scale.attrs.update({"name": name, "quantity": name, "units": unit, "dimension_type": kind})
                scale.make_scale(name)
                dataset.dims[index].attach_scale(scale)
