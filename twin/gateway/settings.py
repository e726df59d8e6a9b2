"""What Nanonis clients have set and a later command uses; the same for all of them, as on a controller."""

import threading
from dataclasses import replace
from typing import Any, Protocol, Self, TypeVar, cast

from twinscope.capabilities import Capabilities


class Section(Protocol):
    """The settings of one module: a frozen dataclass."""

    @classmethod
    def initial(cls, capabilities: Capabilities) -> Self:
        """Return what holds before a client has set anything."""
        ...


_Section = TypeVar("_Section", bound=Section)


class Settings:
    """One section per module. Any thread may use it.

    Parameters
    ----------
    capabilities
        Of the instrument: what sections begin with.
    """

    def __init__(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities
        self._sections: dict[type, Any] = {}
        self._lock = threading.Lock()

    def of(self, kind: type[_Section]) -> _Section:
        """Return the present settings of a section."""
        with self._lock:
            return self._present(kind)

    def change(self, kind: type[_Section], **fields: Any) -> None:
        """Change some fields of a section at once; the section's own checks may refuse, and then nothing changes."""
        with self._lock:
            self._sections[kind] = replace(cast("Any", self._present(kind)), **fields)

    def _present(self, kind: type[_Section]) -> _Section:
        if kind not in self._sections:
            self._sections[kind] = kind.initial(self._capabilities)
        return cast("_Section", self._sections[kind])
