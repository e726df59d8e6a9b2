"""Damaged files: each gives one clear error or what is still whole, soon, and without gigabytes."""

import os
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gwyfile.objects as gwy
import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

import twinscope
from tests.drivers import _recordings as write
from tests.drivers._recordings import ramp
from twinscope.drivers.replay.readers import isolated, read_recording
from twinscope.drivers.replay.readers import nsid as nsid_reader
from twinscope.errors import ConfigurationError, StoreError

NOTE = {"FastScanSize": 2e-6, "SlowScanSize": 1e-6, "ScanRate": 2.0}
MEGABYTE = 2**20


def sxm(path: Path) -> None:
    path.write_bytes(write.sxm([("Z", "m", "both"), ("Current", "A", "fwd")], [ramp(8, 8)] * 3))


def dat(path: Path) -> None:
    path.write_bytes(write.dat({"Bias calc (V)": np.arange(20.0), "Current (A)": np.arange(20.0)}))


def grid_3ds(path: Path) -> None:
    ends = {"Sweep Start": np.zeros(4), "Sweep End": np.ones(4), "Z (m)": np.arange(4.0)}
    spectra = np.zeros((4, 1, 10), np.float32)
    path.write_bytes(write.grid_3ds(["Current (A)"], spectra, ends, (2, 2)))


def gwyddion(path: Path) -> None:
    container = gwy.GwyContainer()
    for number in (0, 1):
        field = gwy.GwyDataField(ramp(8, 8).astype(float), xreal=1e-6, yreal=1e-6, si_unit_xy="m", si_unit_z="V")
        container[f"/{number}/data"] = field
        container[f"/{number}/data/title"] = "Bias"
    container["texts"] = ["one", "two"]
    container.typecodes["texts"] = "S"
    with path.open("wb") as file:
        container.tofile(file)


def asylum(path: Path) -> None:
    path.write_bytes(write.ibw(["HeightTrace", "PhaseTrace"], np.stack([ramp(8, 8)] * 2), NOTE))


def tiff(path: Path) -> None:
    tifffile.imwrite(path, np.stack([ramp(8, 8)] * 2), photometric="minisblack")


def deflated_tiff(path: Path) -> None:
    tifffile.imwrite(path, ramp(16, 16), photometric="minisblack", compression="zlib", predictor=None)


def png(path: Path) -> None:
    Image.fromarray(ramp(16, 16).astype(np.uint16)).save(path)


def nsid(path: Path) -> None:
    axes = [(name, "m", "SPATIAL", np.arange(8.0)) for name in "xy"]
    write.nsid(path, [{"values": ramp(8, 8), "quantity": "HeightTrace", "units": "m", "axes": axes}] * 2)


def own(path: Path) -> None:
    from twinscope.capabilities import Channel
    from twinscope.results import assemble
    from twinscope.storage.store import save

    frame = twinscope.ScanFrame(size=(1e-9, 1e-9))
    request = twinscope.ScanRequest(frame=frame, pixels=(8, 8), channels=("z",))
    channel = {"name": "z", "unit": "m", "quantity": "Height"}
    metadata = {
        "id": "1",
        "kind": "scan",
        "created": "now",
        "request": request.to_dict(),
        "channels": [channel],
        "state": "done",
        "instrument": {"driver": "ramp", "driver_version": "0", "instrument": "ramp"},
    }
    save(assemble(request, (Channel(**channel),), ramp(8, 8)[:, None], metadata), path)


WRITERS: dict[str, tuple[str, Callable[[Path], None], dict[str, Any]]] = {
    "sxm": (".sxm", sxm, {}),
    "dat": (".dat", dat, {}),
    "3ds": (".3ds", grid_3ds, {}),
    "gwy": (".gwy", gwyddion, {}),
    "ibw": (".ibw", asylum, {}),
    "tiff": (".tif", tiff, {"size": 1e-6}),
    "deflated tiff": (".tif", deflated_tiff, {"size": 1e-6}),
    "png": (".png", png, {"size": 1e-6}),
    "nsid": (".h5", nsid, {}),
    "twinscope": (".h5", own, {}),
}


@pytest.fixture(scope="module", params=WRITERS)
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A sound file of each format, and the options to read it with."""
    suffix, writer, options = WRITERS[request.param]
    path = tmp_path_factory.mktemp("sound") / f"sound{suffix}"
    writer(path)
    return path, options


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file over which the HDF5 library hangs costs seconds."""
    monkeypatch.setattr(isolated, "_PATIENCE", 5.0)


def attempt(path: Path, options: dict[str, Any]) -> str | None:
    """Read a file, and return what was said about it if it was refused; anything but our errors fails the test."""
    try:
        recording = read_recording(path, **options)
    except (StoreError, ConfigurationError) as exc:
        said = exc.message
    else:
        assert recording.images or recording.spectra
        return None
    assert str(path) in said
    return said


def test_a_sound_file_is_read(sound: tuple[Path, dict[str, Any]]) -> None:
    assert attempt(*sound) is None


def test_a_file_that_was_cut_off_is_refused(sound: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, options = sound
    content = path.read_bytes()
    cut = tmp_path / path.name
    lengths = np.unique(np.linspace(0, len(content) - 1, 60).astype(int)).tolist()
    for length in [*range(1, 12), *lengths]:
        cut.write_bytes(content[:length])
        said = attempt(cut, options)
        # Nothing tells a grid that was stopped after a record, or a table that ends with a line, from a whole one.
        whole = (path.suffix == ".3ds" and (len(content) - length) % (4 * 13) == 0) or (
            path.suffix == ".dat" and content[:length].endswith(b"\n")
        )
        assert said is not None or whole, f"the first {length} of {len(content)} bytes were taken for a whole file"


def test_flipped_bits_give_an_error_or_a_recording(sound: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, options = sound
    content = path.read_bytes()
    random = np.random.default_rng(2026)
    damaged = tmp_path / path.name
    for _ in range(80):
        broken = bytearray(content)
        # Headers are short and do more harm than data.
        end = len(content) if random.random() < 0.5 else min(len(content), 1000)
        for place in random.integers(0, end, size=random.integers(1, 4)):
            broken[place] ^= 1 << int(random.integers(8))
        damaged.write_bytes(broken)
        attempt(damaged, options)


def test_random_bytes_behind_a_sound_beginning_are_refused(sound: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, options = sound
    content = path.read_bytes()
    random = np.random.default_rng(7)
    damaged = tmp_path / path.name
    for length in [length for length in (4, 8, 16, 64, 128, 256) if length < len(content) // 2]:
        damaged.write_bytes(content[:length] + random.bytes(4096))
        assert attempt(damaged, options) is not None


def promising(kind: str, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A small file whose header promises terabytes."""
    suffix, writer, options = WRITERS[kind]
    path = tmp_path / f"promising{suffix}"
    writer(path)
    content = path.read_bytes()
    if kind == "sxm":
        content = content.replace(b":SCAN_PIXELS:\n       8       8", b":SCAN_PIXELS:\n 1000000 1000000")
    elif kind == "3ds":
        content = content.replace(b"Points=10\r", b"Points=1000000000\r").replace(b'"2 x 2"', b'"9999 x 9999"')
    elif kind == "gwy":
        place = content.index(b"texts\0S") + 7
        content = content[:place] + b"\x7f\x7f\x7f\x7f" + content[place + 4 :]
    elif kind == "ibw":
        content = asylum_with_note(content, 2**30)
    elif kind == "png":
        header = b"IHDR" + struct.pack(">II", 2**20, 2**20) + content[24:29]
        content = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    path.write_bytes(content)
    return path, options


def asylum_with_note(content: bytes, size: int) -> bytes:
    """Change the size of the note in a wave, and make its checksum right again."""
    head = bytearray(content[:384])
    head[2:4] = b"\0\0"
    struct.pack_into("<i", head, 12, size)
    total = int(np.frombuffer(bytes(head), "<i2").sum(dtype=np.int64))
    struct.pack_into("<h", head, 2, (-total + 32768) % 65536 - 32768)
    return bytes(head) + content[384:]


@pytest.mark.parametrize("kind", ["sxm", "3ds", "gwy", "ibw", "png"])
def test_a_promise_of_terabytes_costs_neither_memory_nor_time(kind: str, tmp_path: Path) -> None:
    path, options = promising(kind, tmp_path)
    tracemalloc.start()
    begin = time.process_time()
    try:
        assert attempt(path, options) is not None
        assert tracemalloc.get_traced_memory()[1] < 20 * MEGABYTE
    finally:
        tracemalloc.stop()
    assert time.process_time() - begin < 5.0


def test_a_tiff_may_not_unpack_to_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    with tifffile.TiffWriter(path) as tiff:
        page = (np.zeros((8192, 8192), np.uint8) for _ in range(1))
        tiff.write(page, shape=(1, 8192, 8192), dtype=np.uint8, compression="zlib", metadata=None)
    content = path.read_bytes()
    # Rows of the image, as a tag with one 16-bit or 32-bit number.
    for kind in (3, 4):
        content = content.replace(struct.pack("<HHII", 257, kind, 1, 8192), struct.pack("<HHII", 257, 4, 1, 2**31))
    path.write_bytes(content)
    assert "its data have the shape" in str(attempt(path, {"size": 1e-6}))


def test_hdf5_may_not_unpack_to_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "bomb.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("image", (40_000, 40_000), "f4", chunks=(1000, 1000), compression="gzip")
        dataset.attrs.update({"quantity": "Z", "units": "m", "main_data_name": "image"})
    assert "its data have the shape" in str(attempt(path, {}))


def test_many_datasets_of_hdf5_may_not_add_up_to_gigabytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "many.h5"
    nsid(path)
    # Two images of 8 x 8 values.
    monkeypatch.setattr(nsid_reader, "_LARGEST_SUM", 2 * 8 * 8 * 8)
    assert attempt(path, {}) is None
    with h5py.File(path, "a") as file:
        # The same bytes once more under another name.
        file["again"] = file["Measurement_000/Channel_000/generic/generic"]
    assert "have 1.54e-06 GB together, expected at most 1.02e-06 GB" in str(attempt(path, {}))


def test_hdf5_may_not_have_datasets_without_end(tmp_path: Path) -> None:
    path = tmp_path / "many.h5"
    nsid(path)
    with h5py.File(path, "a") as file:
        group = file["Measurement_000/Channel_000/generic"]
        for number in range(10_000):
            group[f"x{number}"] = group["x"]
    assert "more than 10000 groups and datasets" in str(attempt(path, {}))


@pytest.mark.parametrize("name", ["nothing.sxm", "folder.sxm", "pipe.sxm", "empty.sxm", "nul\0.sxm"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.startswith("folder"):
        path.mkdir()
    elif name.startswith("pipe"):
        os.mkfifo(path)
    elif name.startswith("empty"):
        path.touch()
    with pytest.raises(StoreError, match=r"(is not a file|cannot be read)"):
        read_recording(path)


@pytest.mark.parametrize("program", ["import time; time.sleep(60)", "import os; os._exit(3)", "raise ValueError"])
def test_hdf5_may_hang_or_crash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str) -> None:
    nsid(tmp_path / "image.h5")
    assert attempt(tmp_path / "image.h5", {}) is None
    with monkeypatch.context() as patch:
        patch.setattr(isolated, "_PROGRAM", program)
        patch.setattr(isolated, "_PATIENCE", 1.0)
        patch.setattr(isolated, "_READER", isolated._Process())
        assert "does not survive it, or does not come to an end" in str(attempt(tmp_path / "image.h5", {}))
    assert attempt(tmp_path / "image.h5", {}) is None


def test_a_process_that_has_ended_meanwhile_is_started_again(tmp_path: Path) -> None:
    nsid(tmp_path / "image.h5")
    assert attempt(tmp_path / "image.h5", {}) is None
    assert isolated._READER._process is not None
    isolated._READER._process.kill()
    assert attempt(tmp_path / "image.h5", {}) is None


def test_a_process_without_work_ends_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nsid(tmp_path / "image.h5")
    waiting = isolated._Process()
    monkeypatch.setattr(isolated, "_READER", waiting)
    monkeypatch.setattr(
        isolated,
        "_PROGRAM",
        "from twinscope.drivers.replay.readers import isolated; isolated._IDLE = 0.5; isolated.serve()",
    )
    assert attempt(tmp_path / "image.h5", {}) is None
    assert waiting._process is not None
    assert waiting._process.wait(timeout=30) == 0
    assert attempt(tmp_path / "image.h5", {}) is None
    waiting.end()


def test_a_damaged_heap_over_which_hdf5_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(isolated, "_PATIENCE", 1.5)
    path = tmp_path / "image.h5"
    own(path)
    content = bytearray(path.read_bytes())
    # The size of the first text in the heap reaches beyond the heap: HDF5 1.14 looks for the next one for ever.
    content[content.index(b"GCOL") + 25] ^= 8
    path.write_bytes(content)
    begin = time.monotonic()
    attempt(path, {})
    assert time.monotonic() - begin < 60


def test_pages_that_follow_each_other_in_a_circle_end(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tiff(path)
    content = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (tags,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * tags, first)
    path.write_bytes(content)
    assert "its pages have no end" in str(attempt(path, {"size": 1e-6}))


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.sxm"
    with path.open("wb") as file:
        file.write(b":NANONIS_VERSION:\n2\n")
        file.truncate(2**31 + 1)
    with pytest.raises(StoreError, match=r"at most 2\.15 GB"):
        read_recording(path)


def test_bytes_of_another_format_are_refused_under_any_name(sound: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, _ = sound
    for kind in ("nsid", "sxm", "3ds", "dat", "gwy", "ibw"):
        if path.suffix.removeprefix(".") == kind or (kind == "nsid" and path.suffix == ".h5"):
            continue
        with pytest.raises(StoreError, match=path.name):
            read_recording(path, format=kind)
