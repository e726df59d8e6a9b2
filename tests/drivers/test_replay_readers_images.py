"""Images of Gwyddion, of Asylum instruments, and plain ones: beside the packages that read or write them."""

import io
from pathlib import Path
from typing import Any

import gwyfile.objects as gwy
import igor2.binarywave
import numpy as np
import pytest
import tifffile
from PIL import Image

import twinscope
from tests.drivers import _recordings as write
from tests.drivers._recordings import ramp
from twinscope.drivers.replay.readers import read_recording
from twinscope.errors import ConfigurationError, MissingPackageError, StoreError

NOTE = {
    "ScanSize": 2e-6,
    "FastScanSize": 2e-6,
    "SlowScanSize": 1e-6,
    "ScanRate": 2.0,
    "XOffset": 1e-7,
    "YOffset": -2e-7,
    "ScanAngle": 90,
    "ImagingMode": "PFM Mode",
    "ScanDown": 1,
}
SIZE = 1e-6


def put(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def gwyddion(tmp_path: Path, fields: dict[str, gwy.GwyDataField]) -> Path:
    container = gwy.GwyContainer()
    for number, (title, field) in enumerate(fields.items()):
        container[f"/{number}/data"] = field
        container[f"/{number}/data/title"] = title
        container.typecodes[f"/{number}/data/title"] = "s"
    path = tmp_path / "image.gwy"
    with path.open("wb") as file:
        container.tofile(file)
    return path


def test_fields_of_gwyddion_turn_the_right_way_up(tmp_path: Path) -> None:
    top_down = ramp(2, 3).astype(float)
    place = {"xreal": 3e-6, "yreal": 2e-6, "xoff": 1e-6, "yoff": -5e-6, "si_unit_xy": "m"}
    forward = gwy.GwyDataField(top_down, **place, si_unit_z="m")
    backward = gwy.GwyDataField(top_down + 10, **place, si_unit_z="nA")
    path = gwyddion(tmp_path, {"Z (Forward)": forward, "Z (Backward)": forward, "Current": backward})
    z, back, current = read_recording(path).images
    assert [(image.name, image.direction, image.unit) for image in (z, back, current)] == [
        ("z", "forward", "m"),
        ("z", "backward", "m"),
        ("current", "forward", "A"),
    ]
    np.testing.assert_array_equal(z.data, top_down[::-1])
    np.testing.assert_allclose(current.data, (top_down[::-1] + 10) * 1e-9)
    np.testing.assert_allclose([z.frame.size, z.frame.center], [(3e-6, 2e-6), (2.5e-6, 4e-6)])
    with path.open("rb") as file:
        peer = gwy.GwyObject.fromfile(file)
    np.testing.assert_array_equal(z.data, peer["/0/data"].data[::-1])


def test_equal_titles_are_two_channels_and_other_axes_are_left_out(tmp_path: Path) -> None:
    field = gwy.GwyDataField(ramp(2, 2).astype(float), xreal=1e-6, yreal=1e-6, si_unit_xy="m", si_unit_z="V")
    container = gwy.GwyContainer()
    for number in (0, 1, 10):
        container[f"/{number}/data"] = field
        container[f"/{number}/data/title"] = "Bias"
    container["/2/data"] = gwy.GwyDataField(ramp(2, 2).astype(float), si_unit_xy="s", si_unit_z="V")
    container["/0/graph/graph/1"] = gwy.GwyObject("GwyGraphModel")
    path = tmp_path / "image.gwy"
    with path.open("wb") as file:
        container.tofile(file)
    recording = read_recording(path)
    assert [image.name for image in recording.images] == ["bias", "bias_2", "bias_3"]
    assert any("'s'" in warning for warning in recording.warnings)
    assert any("graphs" in warning for warning in recording.warnings)


def test_characters_of_gwyddion_are_read_though_gwyfile_cannot(tmp_path: Path) -> None:
    field = gwy.GwyDataField(ramp(2, 2).astype(float), xreal=1e-6, yreal=1e-6, si_unit_xy="m", si_unit_z="V")
    path = gwyddion(tmp_path, {"Bias": field})
    content = path.read_bytes()
    begin = content.index(b"\0", 4) + 1
    characters = b"icon\0C\x03\0\0\0abc"
    size = int.from_bytes(content[begin : begin + 4], "little") + len(characters)
    path.write_bytes(content[:begin] + size.to_bytes(4, "little") + characters + content[begin + 4 :])
    assert read_recording(path).images[0].name == "bias"
    with pytest.raises(Exception), path.open("rb") as file:  # noqa: B017, PT011 - what it raises is its own affair
        gwy.GwyObject.fromfile(file)


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_image_of_asylum(tmp_path: Path, order: str) -> None:
    labels = ["HeightTrace", "HeightRetrace", "NapPhase2Retrace", "UserIn0Trace", "FrequencyTrace", "SomethingTrace"]
    images = np.stack([ramp(3, 4, 100 * i) for i in range(len(labels))])
    path = put(tmp_path, "image.ibw", write.ibw(labels, images, NOTE, order=order))
    recording = read_recording(path)
    assert recording.format == "ibw"
    assert [(image.name, image.direction, image.unit) for image in recording.images] == [
        ("height_signal", "forward", "m"),
        ("height_signal", "backward", "m"),
        ("nap_phase2", "backward", "deg"),
        ("user_in0", "forward", "V"),
        ("frequency", "forward", "Hz"),
        ("something", "forward", "m"),
    ]
    peer = igor2.binarywave.load(str(path))["wave"]
    for index, image in enumerate(recording.images):
        np.testing.assert_array_equal(image.data, images[index])
        np.testing.assert_array_equal(image.data, peer["wData"][:, :, index].T)
        assert image.quantity == labels[index]
        assert image.frame == twinscope.ScanFrame(size=(2e-6, 1e-6), center=(1e-7, -2e-7), angle=90.0)
        assert image.line_time == 0.25
    assert recording.metadata["ImagingMode"] == "PFM Mode"


def test_a_wave_that_is_no_image_or_does_not_say_its_size_is_refused(tmp_path: Path) -> None:
    content = write.ibw(["HeightTrace"], ramp(3, 4)[None], {"ScanRate": 1.0})
    with pytest.raises(StoreError, match="FastScanSize"):
        read_recording(put(tmp_path, "image.ibw", content))
    content = write.ibw(["HeightTrace"], ramp(3, 4)[None], NOTE)
    for damage in (4, 100, 383):
        broken = bytearray(content)
        broken[damage] ^= 16
        with pytest.raises(StoreError, match="checksum"):
            read_recording(put(tmp_path, "image.ibw", bytes(broken)))


@pytest.mark.parametrize("dtype", ["u1", "u2", "<f4", ">f4", "f8", "i2", "u4"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_of_any_number_type(tmp_path: Path, dtype: str, compression: str | None) -> None:
    image = (ramp(20, 30) / 3).astype(dtype)
    byteorder = ">" if dtype.startswith(">") else "<"
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, image, compression=compression, byteorder=byteorder, metadata=None, predictor=None)
    (found,) = read_recording(path, size=SIZE).images
    np.testing.assert_array_equal(found.data, image[::-1])
    assert (found.name, found.unit, found.direction) == ("intensity", "1", "forward")
    np.testing.assert_allclose(found.frame.size, (1e-6, 1e-6 * 20 / 30))


def test_what_an_image_shows_is_told(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.arange(6, dtype=np.uint16).reshape(2, 3))
    scale = {"size": (3e-6, 1e-6), "center": (1e-6, 2e-6), "angle": 10.0}
    values = {"channel": "Height", "unit": "nm", "value_scale": 0.5, "value_offset": 3.0}
    (found,) = read_recording(path, **scale, **values).images
    np.testing.assert_allclose(found.data, [[4.5e-9, 5e-9, 5.5e-9], [3e-9, 3.5e-9, 4e-9]])
    assert (found.name, found.unit, found.quantity) == ("height_signal", "m", "Height")
    assert found.frame == twinscope.ScanFrame(size=(3e-6, 1e-6), center=(1e-6, 2e-6), angle=10.0)


@pytest.mark.parametrize("imagej", [False, True])
def test_pages_of_a_tiff_are_a_time_series(tmp_path: Path, imagej: bool) -> None:
    stack = np.stack([ramp(4, 5, 100 * i) for i in range(3)])
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack, imagej=imagej, photometric="minisblack")
    recording = read_recording(path, size=SIZE, frame_time=2.0)
    series = recording.series("intensity")
    assert [image.time for image in series] == [0.0, 2.0, 4.0]
    for image, expected in zip(series, stack, strict=True):
        np.testing.assert_array_equal(image.data, expected[::-1])
    assert list(recording.by_frame().values()) == [series]


def test_images_of_another_size_in_a_tiff_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(ramp(4, 5), metadata=None)
        tiff.write(ramp(2, 2), metadata=None)
    recording = read_recording(path, size=SIZE)
    assert [image.data.shape for image in recording.images] == [(4, 5)]
    assert any("1 further" in warning for warning in recording.warnings)


def test_white_is_zero_in_some_tiffs(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.array([[0, 255]], np.uint8), photometric="miniswhite")
    assert read_recording(path, size=SIZE).images[0].data.tolist() == [[255, 0]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_png(tmp_path: Path, dtype: Any) -> None:
    image = (ramp(3, 4) * 20).astype(dtype)
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    (found,) = read_recording(path, size=SIZE).images
    np.testing.assert_array_equal(found.data, image[::-1])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "1"])
def test_grey_is_read_from_whatever_holds_only_grey(tmp_path: Path, mode: str) -> None:
    image = np.array([[0, 255, 0], [255, 255, 0]], np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(image).convert(mode).save(path)
    (found,) = read_recording(path, size=SIZE).images
    np.testing.assert_array_equal(found.data > 0, image[::-1] > 0)


def coloured(path: Path) -> None:
    image = np.zeros((3, 4, 3), np.uint8)
    image[1, 1] = 255, 0, 0
    if path.suffix == ".png":
        Image.fromarray(image).save(path)
    else:
        tifffile.imwrite(path, image, photometric="rgb")


@pytest.mark.parametrize("name", ["image.png", "image.tif"])
def test_colours_are_refused(tmp_path: Path, name: str) -> None:
    coloured(tmp_path / name)
    with pytest.raises(ConfigurationError, match=f"{name} is a colour image"):
        read_recording(tmp_path / name, size=SIZE)


def test_transparency_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2, 4), 100, np.uint8)).save(tmp_path / "image.png")
    with pytest.raises(ConfigurationError, match="colour image"):
        read_recording(tmp_path / "image.png", size=SIZE)


@pytest.mark.parametrize("name", ["image.png", "image.tif"])
def test_an_image_needs_a_size(tmp_path: Path, name: str) -> None:
    coloured(tmp_path / name)
    with pytest.raises(ConfigurationError, match="as size, to the driver as scale") as caught:
        read_recording(tmp_path / name)
    assert caught.value.details["name"] == "size"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"size": -1.0}, "size"),
        ({"size": (1e-6, 0.0)}, "size"),
        ({"size": "large"}, "size"),
        ({"size": SIZE, "frame_time": 0.0}, "frame_time"),
        ({"size": SIZE, "value_scale": 0.0}, "value_scale"),
        ({"size": SIZE, "unit": 3}, "unit"),
        ({"size": SIZE, "colour": "red"}, "colour"),
        ({"size": SIZE, "keep_units": True}, "keep_units"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(tmp_path: Path, options: dict[str, Any], name: str) -> None:
    tifffile.imwrite(tmp_path / "image.tif", ramp(2, 2))
    with pytest.raises(ConfigurationError) as caught:
        read_recording(tmp_path / "image.tif", **options)
    assert caught.value.details["name"] == name


def test_a_scale_is_refused_where_the_file_has_its_own(tmp_path: Path) -> None:
    path = put(tmp_path, "scan.sxm", write.sxm([("Z", "m", "fwd")], [ramp(2, 2)]))
    with pytest.raises(ConfigurationError, match="size makes no sense") as caught:
        read_recording(path, size=SIZE)
    assert caught.value.details["name"] == "size"


@pytest.mark.parametrize(("package", "name"), [("igor2", "image.ibw"), ("tifffile", "image.tif"), ("PIL", "image.png")])
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str
) -> None:
    import sys

    content = io.BytesIO()
    if name.endswith(".ibw"):
        content.write(write.ibw(["HeightTrace"], ramp(3, 4)[None], NOTE))
    elif name.endswith(".tif"):
        tifffile.imwrite(content, ramp(2, 2))
    else:
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(content, "PNG")
    path = put(tmp_path, name, content.getvalue())
    for module in list(sys.modules):
        if module.partition(".")[0] == package:
            monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=r"twinscope\[replay\]"):
        read_recording(path, **({} if name.endswith(".ibw") else {"size": SIZE}))
