"""How training molecules are made: everything that decides which ones."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Literal, get_args

from twinscope.errors import InvalidRequestError

Elements = Literal["light", "heavy"]
Charges = Literal["gasteiger", "mmff94"]

_VERSION = 1  # to be raised when the same recipe makes other molecules


@dataclass(frozen=True)
class Recipe:
    """The same recipe makes the same molecules in the same order, with any number of processes.

    Attributes
    ----------
    seed
        Not negative.
    elements
        "light": H, C, N, O and F; "heavy": Si, P, S, Cl and Br as well.
    flat_share
        Part of the molecules that is made of flat rings and groups only, large fused rings among them.
    cluster_share
        Part that is clusters with hydrogen bonds: two to six of water, or two small polar molecules.
    charges
        "gasteiger", or "mmff94", which are about twice as large and off the distribution of the published networks.

    Raises
    ------
    InvalidRequestError
        When a value is none of these.
    """

    seed: int = 0
    elements: Elements = "light"
    flat_share: float = 0.35
    cluster_share: float = 0.0
    charges: Charges = "gasteiger"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InvalidRequestError(f"seed is {self.seed}: expected a number that is not negative")
        for name, allowed in (("elements", get_args(Elements)), ("charges", get_args(Charges))):
            if getattr(self, name) not in allowed:
                raise InvalidRequestError(
                    f"{name} is {getattr(self, name)!r}: expected {' or '.join(map(repr, allowed))}"
                )
        for name in ("flat_share", "cluster_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidRequestError(f"{name} is {getattr(self, name)}: expected a share from 0 to 1")
        if self.flat_share + self.cluster_share > 1:
            raise InvalidRequestError(
                f"flat_share {self.flat_share} and cluster_share {self.cluster_share} are more than 1 together"
            )

    def fingerprint(self) -> str:
        """Name the molecules that it makes: 16 hexadecimal digits."""
        text = json.dumps({"version": _VERSION, **dataclasses.asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
