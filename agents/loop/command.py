"""What an agent can ask of a microscope: plain data, the same for wire, files, action spaces and language models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from twinscope.capabilities import ACQUISITIONS
from twinscope.errors import AcquisitionError, InvalidRequestError, TwinscopeError
from twinscope.microscope import Microscope
from twinscope.requests import AcquisitionRequest, request_from_dict
from twinscope.results import Measurement

MOTIONS = (
    "move_to",
    "approach",
    "withdraw",
    "set_signal",
    "set_feedback",
    "coarse_move",
    "pulse",
    "shape_tip",
    "exchange_tip",
)
"""Verbs that give no data. What they take is told by :func:`twinscope.schemas.verb_schemas`."""

# If this client falls silent, the tip does not stay where it is.
_WHEN_LOST = "abort_and_withdraw"
_VERB = "verb"


@dataclass(frozen=True, slots=True)
class Command:
    """One thing that an agent asks for.

    Attributes
    ----------
    verb
        One of :data:`MOTIONS`, or the kind of an acquisition: "scan", "path" or "spectroscopy".
    parameters
        What it takes, as plain data in SI units.

    Raises
    ------
    InvalidRequestError
        When an agent may not ask for this: the verbs that give control, or tell the truth, are not among them.
    """

    verb: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.verb not in (*MOTIONS, *ACQUISITIONS):
            raise InvalidRequestError(
                f"an agent asks for {self.verb!r}: expected one of {', '.join((*MOTIONS, *ACQUISITIONS))}", name=_VERB
            )
        # What cannot be carried out as it is written down cannot be carried out again from a file.
        object.__setattr__(self, "parameters", plain_data(self.parameters))

    @classmethod
    def acquire(cls, request: AcquisitionRequest) -> Self:
        """Ask for a scan, a path or spectra."""
        return cls(request.kind, request.to_dict())

    @property
    def request(self) -> AcquisitionRequest | None:
        """What is to be acquired; None for a motion.

        Raises
        ------
        InvalidRequestError
            When the parameters are none of such a request.
        """
        return request_from_dict(self.verb, self.parameters) if self.verb in ACQUISITIONS else None

    def carry_out(self, scope: Microscope) -> tuple[Measurement | None, TwinscopeError | None]:
        """Do it, and wait for its end.

        Parameters
        ----------
        scope
            Whose control is held.

        Returns
        -------
        measurement, error
            What was measured, also when it was cut short; why it could not be done, or not to its end.
        """
        try:
            request = self.request
            if request is None:
                getattr(scope, self.verb)(**self.parameters)
                return None, None
            acquisition = scope.acquire(request, on_lease_loss=_WHEN_LOST)
        except TwinscopeError as exc:
            return None, exc
        except TypeError as exc:
            return None, InvalidRequestError(f"{self.verb} does not take {sorted(self.parameters)}: {exc}")
        try:
            return acquisition.result(), None
        except AcquisitionError as exc:
            return acquisition.partial(), exc
        except TwinscopeError as exc:
            return None, exc

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: the verb stands among the parameters."""
        return {_VERB: self.verb, **self.parameters}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build from :meth:`to_dict`."""
        rest = dict(data)
        return cls(str(rest.pop(_VERB, "")), rest)


def plain_data(value: Any) -> Any:
    """Return numbers, text, lists and mappings of them; tuples become lists.

    Raises
    ------
    InvalidRequestError
        When there is something else: it could not be written down and read again.
    """
    if isinstance(value, Mapping):
        return {str(name): plain_data(element) for name, element in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(element) for element in value]
    # Numbers of NumPy that are floats of Python are among the floats.
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InvalidRequestError(f"{value!r} is no plain data: expected numbers of Python, text, lists and mappings")
