"""Units and names of channels."""

import numpy as np
import pytest

from twinscope.capabilities import RESERVED_NAMES, Channel
from twinscope.drivers.replay.readers.names import Names, identifier, split_direction, split_unit
from twinscope.drivers.replay.readers.units import si_unit
from twinscope.drivers.replay.recording import RecordedImage, RecordedSpectra
from twinscope.errors import ConfigurationError
from twinscope.requests import ScanFrame


@pytest.mark.parametrize(
    ("text", "name", "factor"),
    [
        ("m", "m", 1.0),
        ("nm", "m", 1e-9),
        ("\u00b5m", "m", 1e-6),
        ("\u03bcm", "m", 1e-6),
        ("Å", "m", 1e-10),
        ("\u212b", "m", 1e-10),
        ("mm", "m", 1e-3),
        ("pA", "A", 1e-12),
        ("°", "deg", 1.0),
        ("degrees", "deg", 1.0),
        ("kHz", "Hz", 1e3),
        ("(V)", "V", 1.0),
        ("mV", "V", 1e-3),
        ("", "1", 1.0),
        ("a.u.", "1", 1.0),
        ("%", "1", 0.01),
        ("Ω", "Ohm", 1.0),
        ("MΩ", "Ohm", 1e6),
        ("pN", "N", 1e-12),
        ("Pa", "Pa", 1.0),
        ("min", "s", 60.0),
        ("N/m", "N/m", 1.0),
        ("V/nm", "V/m", 1e9),
        ("nA V^-1", "A/V", 1e-9),
        ("V V", "V^2", 1.0),
        ("m²", "m^2", 1.0),
        ("nm**2", "m^2", 1e-18),
        ("mV/Hz^0.5", "V/Hz^0.5", 1e-3),
        ("1/s", "1/s", 1.0),
        ("V*A", "V*A", 1.0),
    ],
)
def test_units_become_si(text: str, name: str, factor: float) -> None:
    unit = si_unit(text)
    assert (unit.name, unit.known) == (name, True)
    assert unit.factor == pytest.approx(factor, rel=1e-13)


@pytest.mark.parametrize("text", ["foo", "10", "/", "V/", "V^99", "m/foo", "°C", "--", "^2", "()()"])
def test_a_unit_that_is_not_understood_is_kept(text: str) -> None:
    unit = si_unit(text)
    assert (unit.known, unit.factor) == (text == "()()", 1.0)
    assert unit.name == ("1" if text == "()()" else text)


@pytest.mark.parametrize(
    ("original", "base", "direction", "name"),
    [
        ("HeightRetrace", "Height", "backward", "height_signal"),
        ("NapPhaseTrace", "NapPhase", "forward", "nap_phase"),
        ("NapUserIn0Retrace", "NapUserIn0", "backward", "nap_user_in0"),
        ("[P1]_Z", "[P1]_Z", None, "p1_z"),
        ("Z (Backward)", "Z", "backward", "z"),
        ("Current [bwd]", "Current", "backward", "current"),
        ("OC_M1_Freq._Shift", "OC_M1_Freq._Shift", None, "oc_m1_freq_shift"),
        ("LI Demod 1 X", "LI Demod 1 X", None, "li_demod_1_x"),
        ("ZSensor", "ZSensor", None, "z_sensor"),
        ("dI/dV", "dI/dV", None, "di_dv"),
        ("Δf", "Δf", None, "delta_f"),
        ("Größe", "Größe", None, "gro_e"),
        ("2nd", "2nd", None, "channel_2nd"),
        ("Retrace", "Retrace", None, "retrace"),
        ("lambda", "lambda", None, "lambda_signal"),
        ("高さ", "高さ", None, "channel"),
        ("", "", None, "channel"),
    ],
)
def test_names_of_channels(original: str, base: str, direction: str | None, name: str) -> None:
    assert split_direction(original) == (base, direction)
    assert identifier(base) == name


@pytest.mark.parametrize("name", RESERVED_NAMES)
def test_names_of_axes_are_avoided(name: str) -> None:
    Channel(identifier(name.capitalize()), "1", "")


def test_names_are_used_once() -> None:
    names = Names()
    assert [names.name(original) for original in ("Z", "z", "Z", "z 2", "Z.")] == ["z", "z_2", "z", "z_2_2", "z_3"]
    names = Names()
    ways = [("forward", 0.0), ("backward", 0.0), ("forward", 1.0), ("forward", 0.0), ("forward", 0.0)]
    assert [names.image("Z", *way) for way in ways] == ["z", "z", "z", "z_2", "z_3"]  # type: ignore[arg-type]
    # Each of them is found at once: a small file may name very many channels.
    names = Names()
    assert len({names.name("Z" + "." * (i % 100), str(i)) for i in range(20_000)}) == 20_000


@pytest.mark.parametrize(
    ("label", "name", "unit"),
    [
        ("Current (A)", "Current", "A"),
        ("Current (A) [bwd] [filt]", "Current [bwd] [filt]", "A"),
        ("C2: Acc_square (V V)", "C2: Acc_square", "V V"),
        ("Z-Ctrl hold", "Z-Ctrl hold", ""),
        ("LI (1) (V)", "LI (1)", "V"),
    ],
)
def test_units_within_names(label: str, name: str, unit: str) -> None:
    assert split_unit(label) == (name, unit)


def test_what_was_recorded_cannot_be_altered() -> None:
    values = np.ones((2, 3), ">f4")
    image = RecordedImage(name="z", unit="m", quantity="Z", data=values[::-1], frame=ScanFrame(size=(1.0, 1.0)))
    values[:] = 2
    assert image.data.tolist() == [[1.0] * 3] * 2
    assert image.data.dtype == np.float32
    assert image.data.dtype.isnative
    with pytest.raises(ValueError, match="read-only"):
        image.data[0, 0] = 3


@pytest.mark.parametrize("data", [np.ones(3), np.ones((0, 3)), np.ones((2, 2), complex), np.array([["a"]])])
def test_an_image_that_is_none_is_refused(data: np.ndarray) -> None:
    with pytest.raises(ConfigurationError, match="expected real numbers in 2 dimensions"):
        RecordedImage(name="z", unit="m", quantity="Z", data=data, frame=ScanFrame(size=(1.0, 1.0)))


def test_spectra_fit_their_positions_channels_and_points() -> None:
    channels = (Channel("current", "A", "Current"),)
    with pytest.raises(ConfigurationError, match=r"expected \(2, 1, 4\)"):
        RecordedSpectra(
            channels=channels,
            swept="bias",
            swept_unit="V",
            values=np.arange(4),
            data=np.zeros((2, 1, 3)),
            positions=np.zeros((2, 2)),
        )
