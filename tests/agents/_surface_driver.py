"""A driver over a metal with a few rings of carbon on it: Morse forces without relaxation, computed at once."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from tests.conftest import RampDriver
from twinscope.capabilities import Capabilities, Channel, Limits
from twinscope.state import Position, TipState

# Of the pair force, in Hz and Å: the frequency shift over a ring is lowest some 4 Å above it.
_DEPTH, _DECAY, _DISTANCE = 0.5, 1.3, 3.7
_RADIUS = 2.4
_ANGLES = np.arange(6) * np.pi / 3
_METAL = 5.0


def ring(x: float, y: float) -> np.ndarray:
    """Six atoms (6, 3) around a place, in Å."""
    return np.stack([x + _RADIUS * np.cos(_ANGLES), y + _RADIUS * np.sin(_ANGLES), np.zeros(6)], axis=-1)


class SurfaceDriver(RampDriver):
    """Records what a tip would feel, with noise that comes from a seed."""

    name: ClassVar[str] = "rings"

    def __init__(self, *places: tuple[float, float], modes: tuple[str, ...] = (), noise: float = 0.01) -> None:
        super().__init__()
        self.atoms = np.concatenate([ring(x, y) for x, y in places])
        self.modes = ("constant_height", *modes)
        self.noise = noise
        self.random = np.random.default_rng(0)
        self.lowest = 1e9

    def capabilities(self) -> Capabilities:
        known = super().capabilities()
        return replace(
            known,
            driver="rings",
            channels=(Channel("frequency_shift", "Hz", "Frequency shift"), Channel("z", "m", "Tip height")),
            limits={**known.limits, "z": Limits(2e-10, 5e-9, "m")},
            scan_modes=self.modes,
            settings={"resonance_frequency": 30300.0, "spring_constant": 1800.0, "amplitude": 1e-10, "tip": "CO"},
        )

    def withdraw(self) -> None:
        self.move_to(self.position.x, self.position.y, 5e-9)
        self.tip = TipState.WITHDRAWN

    def approach(self) -> None:
        self.position = Position(self.position.x, self.position.y, 4.5e-10)
        self.tip = TipState.IN_RANGE

    def trace(self, index: int) -> dict[str, np.ndarray]:
        where: dict[str, Any] = super().trace(index)
        x, y, z = (where[f"at_{axis}"] * 1e10 for axis in "xyz")
        if self.request.z_mode != "constant_height":
            across = np.hypot(x[:, None] - self.atoms[:, 0], y[:, None] - self.atoms[:, 1])
            z = _METAL + np.tanh(np.exp(-((across / 2.5) ** 2)).sum(axis=1))
        self.lowest = min(self.lowest, float(z.min()))
        away = np.linalg.norm(np.stack([x, y, z], axis=-1)[:, None] - self.atoms, axis=-1)
        near = np.exp(-_DECAY * (away - _DISTANCE))
        shift = _DEPTH * (near**2 - 2 * near).sum(axis=1) - 0.3
        return {"frequency_shift": shift + self.noise * self.random.normal(size=len(x)), "z": z * 1e-10}
