"""What can be chosen about a refinement."""

from dataclasses import dataclass

from twinscope.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class RefinementOptions:
    """Settings of :func:`~twinscope.agents.structure_discovery.refinement.refine`.

    Attributes
    ----------
    pixels
        The most pixels of one slice that are compared; of more every second, third... line and column is taken.
    slices
        The most slices that are compared.
    margin
        How far around the atoms pixels are compared, in Å.
    rounds
        How often the weights of the slices are taken anew from what is left, with the bonds between the atoms.
    iterations
        The most steps of one round.
    noise
        Standard deviation of the noise of the frequency shift in Hz, the same in all slices; None to estimate it from
        the stack.
    model_error
        What the simulation is trusted to, as a part of the contrast of a slice: what is left beyond noise and this is
        not believed. 0.01 where the stack was simulated by the same kernels: then single wrong or missing atoms are
        noticed, too.
    hidden_matter
        Let matter below the atoms, which nobody saw, add to the attraction.
    change_atoms
        Try other elements, remove and add atoms, several at a time, where the stack demands more than was believed
        beforehand. It takes several times as long. Where much of a molecule is missing, it may not find back; the atoms
        of the start, only moved, are the result wherever the changed ones are not better.

    Raises
    ------
    InvalidRequestError
        When a number is not positive.
    """

    pixels: int = 4096
    slices: int = 12
    margin: float = 2.5
    rounds: int = 14
    iterations: int = 3
    noise: float | None = None
    model_error: float = 0.05
    hidden_matter: bool = True
    change_atoms: bool = False

    def __post_init__(self) -> None:
        for name in ("pixels", "slices", "margin", "rounds", "iterations", "noise", "model_error"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidRequestError(
                    f"{name} of the refinement is {value}: expected a number above zero", name=name
                )
