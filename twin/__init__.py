"""A scanning-probe microscope that you script over the network.

>>> import twinscope
>>> with twinscope.Microscope(sample="benzene") as scope:
...     scope.capabilities().channel("frequency_shift").unit
'Hz'
"""

import importlib
from typing import TYPE_CHECKING, Any

from twinscope._version import __version__ as __version__

if TYPE_CHECKING:
    from twinscope.acquisition import Acquisition as Acquisition
    from twinscope.acquisition import Line as Line
    from twinscope.acquisition import Progress as Progress
    from twinscope.capabilities import Capabilities as Capabilities
    from twinscope.capabilities import Channel as Channel
    from twinscope.capabilities import Limits as Limits
    from twinscope.errors import TwinscopeError as TwinscopeError
    from twinscope.events import Event as Event
    from twinscope.interlocks import Interlocks as Interlocks
    from twinscope.interlocks import Region as Region
    from twinscope.interlocks import SignalRule as SignalRule
    from twinscope.microscope import Microscope as Microscope
    from twinscope.microscope import Missed as Missed
    from twinscope.microscope import connect as connect
    from twinscope.requests import PathRequest as PathRequest
    from twinscope.requests import ScanFrame as ScanFrame
    from twinscope.requests import ScanRequest as ScanRequest
    from twinscope.requests import SpectroscopyRequest as SpectroscopyRequest
    from twinscope.requests import Sweep as Sweep
    from twinscope.results import Axis as Axis
    from twinscope.results import ChannelData as ChannelData
    from twinscope.results import Profile as Profile
    from twinscope.results import Scan as Scan
    from twinscope.results import Spectrum as Spectrum
    from twinscope.sessions import Role as Role
    from twinscope.state import InstrumentState as InstrumentState
    from twinscope.state import JobState as JobState
    from twinscope.state import Position as Position
    from twinscope.state import Reading as Reading
    from twinscope.state import Status as Status
    from twinscope.state import TipState as TipState
    from twinscope.storage.store import load as load

# A script that only asks for the state of a microscope should not wait for NumPy and HDF5 to load.
_HOMES = {
    "twinscope.acquisition": ("Acquisition", "Line", "Progress"),
    "twinscope.capabilities": ("Capabilities", "Channel", "Limits"),
    "twinscope.errors": ("TwinscopeError",),
    "twinscope.events": ("Event",),
    "twinscope.interlocks": ("Interlocks", "Region", "SignalRule"),
    "twinscope.microscope": ("Microscope", "Missed", "connect"),
    "twinscope.requests": ("PathRequest", "ScanFrame", "ScanRequest", "SpectroscopyRequest", "Sweep"),
    "twinscope.results": ("Axis", "ChannelData", "Profile", "Scan", "Spectrum"),
    "twinscope.sessions": ("Role",),
    "twinscope.state": ("InstrumentState", "JobState", "Position", "Reading", "Status", "TipState"),
    "twinscope.storage.store": ("load",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
