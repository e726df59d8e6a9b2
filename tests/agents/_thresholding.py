"""Structures as they were read off images before there were networks: bright places of the lowest slice are atoms."""

import numpy as np
from scipy import ndimage

from twinscope.agents.structure_discovery.prediction import DescriptorMap, Prediction
from twinscope.agents.structure_discovery.stack import ImageStack
from twinscope.agents.structure_discovery.structure import Structure


class Thresholding:
    """A predictor without a network; it is the less sure the fewer lines were measured."""

    def __init__(self, *, tells: bool = True) -> None:
        self.tells = tells

    def predict(self, stack: ImageStack, *_others: ImageStack) -> Prediction:
        depth = np.arange(len(stack.z), dtype=float)[:, None, None]
        weights = np.where(stack.measured, depth + 1, 0)
        image = (np.nan_to_num(stack.frequency_shift) * weights).sum(0) / np.maximum(weights.sum(0), 1)
        relief = np.abs(image - np.median(image))
        relief *= 1.5 / relief.max()
        sigma = np.full(relief.shape, np.nan)
        if self.tells:
            sigma = 0.5 / np.sqrt(1 + stack.measured.sum(axis=0))
        maps = {name: DescriptorMap(name, "Å", relief, sigma) for name in ("vdw_spheres", "height_map")}
        top = (ndimage.maximum_filter(relief, size=5) == relief) & (relief > 0.6)
        rows, columns = np.nonzero(top)
        atoms = np.stack([stack.x[columns], stack.y[rows], np.zeros(len(rows))], axis=-1)
        structure = Structure.known(np.full(len(atoms), 6), atoms)
        empty = np.zeros((1, len(stack.y), len(stack.x)))
        return Prediction(stack.x, stack.y, maps, empty, np.zeros(1), stack.x, stack.y, structure, {}, "thresholding")
