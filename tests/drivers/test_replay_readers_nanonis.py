"""Files of Nanonis: what is read is what was recorded, where it was recorded, and what nanonispy2 reads, too."""

from pathlib import Path

import nanonispy2
import numpy as np
import pytest

from tests.drivers import _recordings as write
from tests.drivers._recordings import ramp
from twinscope.drivers.replay.readers import read_recording
from twinscope.errors import StoreError

BOTH = [("Z", "m", "both"), ("Current", "A", "both")]


def put(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def stored(image: np.ndarray, scan_dir: str, direction: str) -> np.ndarray:
    """An image, bottom row first, in the order in which it is recorded."""
    return image[:: 1 if scan_dir == "up" else -1, :: 1 if direction == "forward" else -1]


@pytest.mark.parametrize("scan_dir", ["up", "down"])
def test_a_scan_lies_the_right_way_round_whichever_way_it_was_taken(tmp_path: Path, scan_dir: str) -> None:
    expected = {
        (name, direction): ramp(3, 4, 100 * i)
        for i, (name, direction) in enumerate((n, d) for n in ("z", "current") for d in ("forward", "backward"))
    }
    images = [stored(image, scan_dir, direction) for (_, direction), image in expected.items()]
    path = put(tmp_path, "scan.sxm", write.sxm(BOTH, images, scan_dir=scan_dir, angle=30.0))
    recording = read_recording(path)
    assert recording.format == "sxm"
    assert recording.warnings == ()
    assert [(channel.name, channel.unit, channel.quantity) for channel in recording.channels] == [
        ("z", "m", "Z"),
        ("current", "A", "Current"),
    ]
    found = {(image.name, image.direction): image for image in recording.images}
    assert list(found) == list(expected)
    for key, image in expected.items():
        np.testing.assert_array_equal(found[key].data, image)
    frame = found["z", "forward"].frame
    # Angles of Nanonis are clockwise, ours are not.
    assert (frame.size, frame.center, frame.angle) == ((4e-9, 2e-9), (1e-8, -2e-8), -30.0)
    assert [image.line_time for image in recording.images] == [0.5, 0.25, 0.5, 0.25]
    assert recording.metadata["REC_DATE"].strip() == "16.06.2026"


def test_a_scan_has_the_values_that_nanonispy2_reads(tmp_path: Path) -> None:
    path = put(tmp_path, "scan.sxm", write.sxm(BOTH, [ramp(5, 3, 100 * i) for i in range(4)], scan_dir="down"))
    peer = nanonispy2.read.Scan(str(path))
    for image in read_recording(path).images:
        theirs = peer.signals[image.quantity][image.direction]
        np.testing.assert_array_equal(image.data, theirs[::-1, :: 1 if image.direction == "forward" else -1])


def test_channels_of_one_direction_and_little_endian_numbers(tmp_path: Path) -> None:
    """nanonispy2 cannot read such files: it takes all channels to be there in both directions."""
    channels = [("Z", "nm", "forward"), ("Current", "pA", "bwd"), ("LI Demod 1 X", "V", "fwd")]
    images = [ramp(2, 3), ramp(2, 3, 10), ramp(2, 3, 20)]
    path = put(tmp_path, "scan.sxm", write.sxm(channels, images, kind="FLOAT            LSBFIRST"))
    found = read_recording(path).images
    assert [(image.name, image.direction, image.unit) for image in found] == [
        ("z", "forward", "m"),
        ("current", "backward", "A"),
        ("li_demod_1_x", "forward", "V"),
    ]
    np.testing.assert_allclose(found[0].data, ramp(2, 3) * 1e-9, rtol=1e-6)
    np.testing.assert_allclose(found[1].data, ramp(2, 3, 10)[:, ::-1] * 1e-12, rtol=1e-6)


def test_passes_of_a_scan_are_channels(tmp_path: Path) -> None:
    config = (
        ":Multipass-Config:\n\tRecord-Ch\tPlayback\tPlayback-Offset\tSpeed_factor\n"
        "\t-1\tFALSE\t0.000E+0\t1.000\n\t-1\tTRUE\t1.000E-9\t1.000\n"
    )
    channels = [("[P1]_Z", "m", "both"), ("[P2]_Z", "m", "both")]
    path = put(tmp_path, "scan.sxm", write.sxm(channels, [ramp(2, 2, i) for i in range(4)], extra=config))
    recording = read_recording(path)
    assert [channel.name for channel in recording.channels] == ["p1_z", "p2_z"]
    np.testing.assert_array_equal(recording.series("p2_z", "backward")[0].data, ramp(2, 2, 3)[:, ::-1])
    assert "1.000E-9" in recording.metadata["Multipass-Config"]


def test_a_scan_that_was_stopped_has_nan(tmp_path: Path) -> None:
    image = ramp(4, 3)
    image[2:] = np.nan
    path = put(tmp_path, "scan.sxm", write.sxm([("Z", "m", "forward")], [image]))
    np.testing.assert_array_equal(read_recording(path).images[0].data, image)


def test_a_comment_that_looks_like_a_header_changes_nothing(tmp_path: Path) -> None:
    comment = ":SCAN_DIR:\ndown\n:SCAN_PIXELS:\n7 7"
    path = put(tmp_path, "scan.sxm", write.sxm([("Z", "m", "forward")], [ramp(2, 3)], comment=comment))
    np.testing.assert_array_equal(read_recording(path).images[0].data, ramp(2, 3))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((b":SCAN_DIR:\nup", b":SCAN_DIR:\nleft"), "SCAN_DIR is 'left'"),
        ((b"4.000000E-9", b"0.000000E-9"), "frame.size"),
        ((b"FLOAT ", b"INT   "), "SCANIT_TYPE"),
        ((b"       4       3", b"       5       3"), "4 images of 5 x 3 pixels"),
        ((b"       4       3", b"       4     -3 "), "SCAN_PIXELS"),
        ((b":SCAN_RANGE:", b":SCAN_RANGO:"), "no 'SCAN_RANGE'"),
        ((b"\tboth\t", b"\tdiag\t"), "no name or direction"),
    ],
)
def test_a_scan_whose_header_is_wrong_is_refused(tmp_path: Path, change: tuple[bytes, bytes], said: str) -> None:
    content = write.sxm(BOTH, [ramp(3, 4)] * 4)
    assert change[0] in content
    with pytest.raises(StoreError, match=r"scan\.sxm cannot be read") as caught:
        read_recording(put(tmp_path, "scan.sxm", content.replace(*change)))
    assert said in str(caught.value)


def test_a_spectrum(tmp_path: Path) -> None:
    bias = np.linspace(-1, 1, 5)
    columns = {"Bias calc (V)": bias, "Current (A)": bias * 1e-10, "Current [bwd] (A)": bias * 2e-10, "LI (mV)": bias}
    path = put(tmp_path, "spectrum.dat", write.dat(columns))
    (spectra,) = read_recording(path).spectra
    assert (spectra.swept, spectra.swept_unit) == ("bias", "V")
    np.testing.assert_allclose(spectra.values, bias)
    assert [(channel.name, channel.unit) for channel in spectra.channels] == [
        ("current", "A"),
        ("current_backward", "A"),
        ("li", "V"),
    ]
    np.testing.assert_allclose(spectra.data[0], [bias * 1e-10, bias * 2e-10, bias * 1e-3])
    np.testing.assert_allclose(spectra.positions, [[1e-9, -2e-9]])
    peer = nanonispy2.read.Spec(str(path)).signals
    for channel, values in zip(spectra.channels[:2], spectra.data[0], strict=False):
        np.testing.assert_array_equal(values, peer[channel.quantity])


def test_a_spectrum_over_z_without_a_position(tmp_path: Path) -> None:
    columns = {"Z rel (m)": np.array([0.0, 1e-10]), "Current (A) [filt]": np.array([1.0, 2.0])}
    recording = read_recording(put(tmp_path, "spectrum.dat", write.dat(columns, position=None)))
    (spectra,) = recording.spectra
    assert (spectra.swept, spectra.swept_unit, spectra.channels[0].name) == ("z", "m", "current_filt")
    assert spectra.positions.tolist() == [[0.0, 0.0]]
    assert any("relative" in warning for warning in recording.warnings)
    assert any("where" in warning for warning in recording.warnings)


def test_a_spectrum_whose_last_line_was_cut_is_refused(tmp_path: Path) -> None:
    content = write.dat({"Bias calc (V)": np.arange(3.0), "Current (A)": np.arange(3.0)})
    with pytest.raises(StoreError, match="its last line has no end"):
        read_recording(put(tmp_path, "spectrum.dat", content[:-6]))


def grid(nx: int, ny: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Spectra of two channels at nx by ny positions, and their parameters."""
    count = nx * ny
    spectra = np.arange(count * 2 * 5, dtype=np.float32).reshape(count, 2, 5)
    x, y = np.meshgrid(1e-8 + 1e-9 * (np.arange(nx) - (nx - 1) / 2), -2e-8 + 1e-9 * (np.arange(ny) - (ny - 1) / 2))
    parameters = {
        "Sweep Start": np.full(count, -1.0),
        "Sweep End": np.full(count, 1.0),
        "X (m)": x.ravel(),
        "Y (m)": y.ravel(),
        "Z (m)": np.arange(count) * 1e-9,
        "Scan:Current (A)": np.arange(count) * 1e-12,
    }
    return spectra, parameters


CHANNELS = ["Current (A)", "LI Demod 1 X (A)"]


def test_a_grid_of_spectra_and_its_maps(tmp_path: Path) -> None:
    spectra, parameters = grid(4, 2)
    path = put(tmp_path, "grid.3ds", write.grid_3ds(CHANNELS, spectra, parameters, (4, 2)))
    recording = read_recording(path)
    (found,) = recording.spectra
    assert (found.swept, found.swept_unit, [channel.name for channel in found.channels]) == (
        "bias",
        "V",
        ["current", "li_demod_1_x"],
    )
    np.testing.assert_array_equal(found.values, np.linspace(-1, 1, 5))
    np.testing.assert_array_equal(found.data, spectra)
    np.testing.assert_allclose(found.positions, np.stack([parameters["X (m)"], parameters["Y (m)"]], -1), rtol=1e-6)
    z, current = recording.images
    assert (z.name, z.unit, current.name) == ("z", "m", "scan_current")
    np.testing.assert_allclose(z.data, parameters["Z (m)"].reshape(2, 4), rtol=1e-6)
    np.testing.assert_allclose(z.frame.size, (4e-9, 2e-9), rtol=1e-5)
    np.testing.assert_allclose(z.frame.center, (1e-8, -2e-8), rtol=1e-5)
    peer = nanonispy2.read.Grid(str(path)).signals
    for index, label in enumerate(CHANNELS):
        np.testing.assert_array_equal(found.data[:, index].reshape(2, 4, 5), peer[label])
    np.testing.assert_array_equal(found.values, peer["sweep_signal"])
    np.testing.assert_array_equal(z.data, peer["topo"])


def test_a_turned_grid_lies_where_its_spectra_were_taken(tmp_path: Path) -> None:
    spectra, parameters = grid(3, 2)
    cos, sin = np.cos(np.radians(40)), np.sin(np.radians(40))
    x, y = parameters["X (m)"].copy(), parameters["Y (m)"].copy()
    parameters["X (m)"], parameters["Y (m)"] = x * cos - y * sin, x * sin + y * cos
    path = put(tmp_path, "grid.3ds", write.grid_3ds(CHANNELS, spectra, parameters, (3, 2)))
    assert read_recording(path).images[0].frame.angle == pytest.approx(40, abs=1e-3)


def test_a_grid_without_recorded_positions_lies_in_its_frame(tmp_path: Path) -> None:
    spectra, parameters = grid(2, 1)
    del parameters["X (m)"]
    recording = read_recording(put(tmp_path, "grid.3ds", write.grid_3ds(CHANNELS, spectra, parameters, (2, 1))))
    np.testing.assert_allclose(recording.spectra[0].positions, [[9e-9, -2e-8], [11e-9, -2e-8]])


def test_a_grid_that_was_stopped_has_the_spectra_that_were_measured(tmp_path: Path) -> None:
    spectra, parameters = grid(3, 2)
    content = write.grid_3ds(CHANNELS, spectra, parameters, (3, 2))
    recording = read_recording(put(tmp_path, "grid.3ds", content[: -2 * 4 * (6 + 10)]))
    assert any("4 of 6 positions" in warning for warning in recording.warnings)
    np.testing.assert_array_equal(recording.spectra[0].data, spectra[:4])
    assert recording.spectra[0].positions.shape == (4, 2)
    assert np.isnan(recording.images[0].data).tolist() == [[False] * 3, [False, True, True]]


def test_a_sweep_in_segments(tmp_path: Path) -> None:
    spectra, parameters = grid(2, 2)
    segments = (
        "Filetype=MLS\r\nSegment Start (V), Segment End (V), Settling (s), Integration (s), Steps (xn), Lockin, Init."
        " Settling (s)=-1E+0,0E+0,1E-3,1E-3,3,0E+0,0E+0;0E+0,2E+0,1E-3,1E-3,{},0E+0,0E+0\r\n"
    )
    for steps, expected in ((2, [-1, -0.5, 0, 0, 2]), (3, [-1, -0.5, 0, 1, 2])):
        content = write.grid_3ds(CHANNELS, spectra, parameters, (2, 2), extra=segments.format(steps))
        recording = read_recording(put(tmp_path, "grid.3ds", content))
        assert recording.spectra[0].values.tolist() == expected
    content = write.grid_3ds(CHANNELS, spectra, parameters, (2, 2), extra=segments.format(1))
    with pytest.raises(StoreError, match="the segments of its sweep have 4 points"):
        read_recording(put(tmp_path, "grid.3ds", content))
    # More than any spectrum has: they are not even made.
    content = write.grid_3ds(
        CHANNELS, spectra, parameters, (2, 2), extra=segments.format("5;" + "0,1,0,0,5;" * 999 + "0,1,0,0,5")
    )
    with pytest.raises(StoreError, match="the segments of its sweep have 5008 points, its spectra have 5"):
        read_recording(put(tmp_path, "grid.3ds", content))


def test_positions_with_other_sweeps_are_kept_apart(tmp_path: Path) -> None:
    spectra, parameters = grid(2, 2)
    parameters["Sweep End"] = np.array([1.0, 2.0, 1.0, 2.0])
    recording = read_recording(put(tmp_path, "grid.3ds", write.grid_3ds(CHANNELS, spectra, parameters, (2, 2))))
    first, second = recording.spectra
    assert (first.values[-1], second.values[-1]) == (1.0, 2.0)
    np.testing.assert_array_equal(second.data, spectra[[1, 3]])
    np.testing.assert_array_equal(second.positions[:, 0] > 1e-8, [True, True])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((b"Points=5", b"Points=6"), "for each of up to 4 positions"),
        ((b'"2 x 2"', b'"1 x 1"'), "for each of up to 1 positions"),
        ((b"byte)=6", b"byte)=7"), "names 6 parameters"),
        ((b'"2 x 2"', b'"2 by 2"'), "Grid dim"),
        ((b"4.000000E-9", b"4.000000E-x"), "Grid settings"),
        ((b"Sweep Start", b"Sweep Stars"), "from where to where"),
    ],
)
def test_a_grid_whose_header_is_wrong_is_refused(tmp_path: Path, change: tuple[bytes, bytes], said: str) -> None:
    content = write.grid_3ds(CHANNELS, *grid(2, 2), (2, 2))
    assert change[0] in content
    with pytest.raises(StoreError, match=r"grid\.3ds cannot be read") as caught:
        read_recording(put(tmp_path, "grid.3ds", content.replace(*change)))
    assert said in str(caught.value)
