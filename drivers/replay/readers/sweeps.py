"""What spectra sweep and record, by the names that files give it."""

import numpy as np

from twinscope.capabilities import Channel
from twinscope.drivers.replay.readers.contents import Contents
from twinscope.drivers.replay.readers.names import Names, identifier, split_unit

# Names of signals that requests can sweep, by the identifier of what files call them.
_SWEPT = {
    **dict.fromkeys(("bias", "bias_calc", "voltage_signal", "sample_bias", "dc_bias"), "bias"),
    **dict.fromkeys(("z", "z_rel", "height_signal", "z_sensor"), "z"),
}


def swept_signal(
    contents: Contents, label: str, values: np.ndarray, unit: str | None = None
) -> tuple[str, str, np.ndarray]:
    """Return name, SI unit and values of what was swept; the unit is part of the label unless it is given."""
    bare, unit = split_unit(label) if unit is None else (label, unit)
    si, scaled = contents.to_si(bare, unit, values)
    name = identifier(bare)
    if name == "z_rel":
        contents.warn("z of the spectra is relative to the height at which each of them began")
    return _SWEPT.get(name, name), si, scaled


def spectrum_channel(
    contents: Contents, names: Names, label: str, values: np.ndarray, unit: str | None = None
) -> tuple[Channel, np.ndarray]:
    """Return the channel and its values in SI; the unit is part of the label unless it is given."""
    bare, unit = split_unit(label) if unit is None else (label, unit)
    si, scaled = contents.to_si(bare, unit, values)
    # "bwd" is how Nanonis marks what was recorded on the way back.
    return Channel(names.name(bare.replace("[bwd]", "backward")), si, label), scaled
