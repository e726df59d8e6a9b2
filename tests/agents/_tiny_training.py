"""A training that takes a second: small images, and a picture that can be learned."""

import numpy as np

from twinscope.agents.structure_discovery.networks.discovery import DiscoveryConfig
from twinscope.agents.structure_discovery.stack import StackGrid
from twinscope.agents.structure_discovery.training.options import TrainingOptions
from twinscope.agents.structure_discovery.training_data.batch import Batch

GRID = StackGrid(pixels=16, pitch=0.5, slices=10, spacing=0.1)
OPTIONS = TrainingOptions(
    steps=12,
    batch=2,
    warmup=2,
    learning_rate=5e-3,
    validate_every=6,
    validation_samples=2,
    # They would double the time of compiling.
    realism=0.0,
    cut_outs=0.0,
    network=DiscoveryConfig(widths=(4, 8), blocks=(1, 1), heads=2),
)


class Blobs:
    """Samples with one atom, which shows as a blob in stack and maps."""

    def batch(self, number: int, size: int) -> Batch:
        rng = np.random.default_rng(number)
        axis = GRID.axis()
        positions = np.zeros((size, 2, 3), np.float32)
        positions[:, 0, :2] = rng.uniform(-2, 2, (size, 2))
        numbers = np.zeros((size, 2), np.int32)
        numbers[:, 0] = rng.choice([1, 8], size)
        x, y = positions[:, 0, 0, None, None], positions[:, 0, 1, None, None]
        blob = np.exp(-((axis[None, None] - x) ** 2) - (axis[None, :, None] - y) ** 2).astype(np.float32)
        stack = 0.05 * blob[:, None, None] * np.linspace(0.5, 1, 10, dtype=np.float32)[None, None, :, None, None]
        scales = np.array([0.1, 0.6, 1.0, 0.02], np.float32)[None, :, None, None]
        return Batch(
            stack,
            scales * blob[:, None],
            numbers,
            positions,
            np.zeros((size, 2), np.float32),
            np.tile(np.array([3.2, 0.25, -0.1, 0.1, -0.2], np.float32), (size, 1)),
        )
