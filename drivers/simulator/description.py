"""What the simulated microscope can do, for its capabilities."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from twinscope._version import __version__
from twinscope.capabilities import Capabilities, Limits
from twinscope.drivers.common.realism import Realism
from twinscope.drivers.simulator.head import Head
from twinscope.drivers.simulator.imaging import CHANNELS
from twinscope.drivers.simulator.options import SimulatorOptions
from twinscope.drivers.simulator.signals import LIMITS, SIGNALS
from twinscope.requests import Z_MODES


def describe(driver: str, options: SimulatorOptions, realism: Realism, head: Head) -> Capabilities:
    """Return the capabilities of a driver with such options."""
    reach = head.specimen.reach
    return Capabilities(
        instrument=f"simulated nc-AFM over {head.specimen.surface.name}",
        driver=driver,
        driver_version=__version__,
        simulated=True,
        channels=CHANNELS,
        limits={
            "x": Limits(-reach, reach, "m"),
            "y": Limits(-reach, reach, "m"),
            "z": Limits(head.lowest, head.highest, "m"),
            "speed": Limits(1e-12, max(options.lateral_speed, options.vertical_speed), "m/s"),
            "pulse_voltage": Limits(-10.0, 10.0, "V"),
            "pulse_duration": Limits(1e-4, 1.0, "s"),
            "tip_shaping_depth": Limits(1e-11, 5e-9, "m"),
            "tip_shaping_voltage": Limits(-10.0, 10.0, "V"),
            **LIMITS,
        },
        scan_modes=Z_MODES,
        sweeps=("z", "bias"),
        largest_acquisition=options.largest_acquisition,
        settings=_settings(options, realism, head),
        signals=SIGNALS,
        features=("pulse", "tip_shaping", "tip_exchange", *(("oracle",) if options.oracle else ())),
        probes=tuple(head.tips),
    )


def _settings(options: SimulatorOptions, realism: Realism, head: Head) -> Mapping[str, Any]:
    """Everything that data depend on, as plain data."""
    surface = head.specimen.surface
    return {
        **asdict(options),
        "realism": realism.to_dict(),
        "sample": surface.name,
        "sample_source": surface.source,
        "atoms": surface.atom_count,
        "tip_model": asdict(head.intact),
        "warnings": list(surface.warnings),
    }
