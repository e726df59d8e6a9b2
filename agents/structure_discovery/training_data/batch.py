"""Samples of training data: what a microscope would see of molecules, and the truth about them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import jax
import numpy as np

from twinscope.agents.structure_discovery.prediction import CONDITIONS, DESCRIPTORS
from twinscope.errors import InvalidRequestError

Array = np.ndarray | jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Batch:
    """Samples with all that is known about them; NumPy or JAX arrays, a pytree.

    Attributes
    ----------
    force_gradient
        N/m, shape (b, t, nz, ny, nx) for t tips, slice 0 far, without noise. It is ``-2 k df / f0``: the mean force
        gradient that a sensor of stiffness k and frequency f0 sees over its oscillation.
    maps
        Shape (b, 4, ny, nx), in the order and units of :data:`.prediction.DESCRIPTORS`.
    numbers
        Atomic numbers, shape (b, n); 0 where a molecule has no more atoms.
    positions
        Å, shape (b, n, 3): x and y in image coordinates, z from the highest atom down.
    charges
        Of the atoms, in e, shape (b, n).
    conditions
        Of the first tip, shape (b, 5), in the order and units of :data:`.prediction.CONDITIONS`. The charge is that of
        a monopole: it is 0 for a tip with a quadrupole.
    """

    force_gradient: Array
    maps: Array
    numbers: Array
    positions: Array
    charges: Array
    conditions: Array

    def __len__(self) -> int:
        return int(self.force_gradient.shape[0])

    def __getitem__(self, samples: slice | Sequence[int] | Array) -> Self:
        return type(self)(**{field.name: getattr(self, field.name)[samples] for field in fields(self)})

    @classmethod
    def joined(cls, batches: Sequence[Self]) -> Self:
        """Put batches one after the other; NumPy arrays.

        Raises
        ------
        InvalidRequestError
            When there are none, or their images or lists of atoms have different shapes.
        """
        if not batches:
            raise InvalidRequestError("there are no batches to join: expected at least one")
        columns = {field.name: [np.asarray(getattr(one, field.name)) for one in batches] for field in fields(cls)}
        for name, parts in columns.items():
            shapes = sorted({part.shape[1:] for part in parts})
            if len(shapes) > 1:
                raise InvalidRequestError(
                    f"{name} of the batches has the shapes {shapes} per sample: expected only one"
                )
        return cls(**{name: np.concatenate(parts) for name, parts in columns.items()})

    def check(self) -> None:
        """Raise InvalidRequestError unless shapes fit together and all values are finite."""
        shape = np.shape(self.force_gradient)
        if len(shape) != 5:
            raise InvalidRequestError(f"force_gradient has the shape {shape}: expected (b, t, nz, ny, nx)")
        count, atoms = shape[0], np.shape(self.numbers)[-1]
        expected = {
            "maps": (count, len(DESCRIPTORS), *shape[-2:]),
            "numbers": (count, atoms),
            "positions": (count, atoms, 3),
            "charges": (count, atoms),
            "conditions": (count, len(CONDITIONS)),
        }
        for name, wanted in expected.items():
            found = np.shape(getattr(self, name))
            if found != wanted:
                raise InvalidRequestError(f"{name} has the shape {found}: expected {wanted} for {count} samples")
        for field in fields(self):
            finite = np.isfinite(np.asarray(getattr(self, field.name)))
            if not finite.all():
                sample = int(np.argwhere(~finite)[0, 0])
                raise InvalidRequestError(f"{field.name} of sample {sample} has values that are not finite")
