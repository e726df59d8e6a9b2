"""The microscope as devices of bluesky, on ophyd-async; needs the extra ``bluesky``.

::

    RE = RunEngine()
    link = SpmLink("localhost")
    with init_devices():
        stage = SpmStage(link)
        scan = SpmScan(link, request, follow=True)
    RE(grid_scan([scan], stage.y, -1e-9, 1e-9, 3, stage.x, -1e-9, 1e-9, 3))
"""

import importlib
from typing import TYPE_CHECKING, Any

from twinscope._optional import import_optional

if TYPE_CHECKING:
    from twinscope.bluesky._link import SpmLink as SpmLink
    from twinscope.bluesky._scan import SpmScan as SpmScan
    from twinscope.bluesky._signals import SpmSignals as SpmSignals
    from twinscope.bluesky._spectroscopy import SpmSpectroscopy as SpmSpectroscopy
    from twinscope.bluesky._stage import SpmAxis as SpmAxis
    from twinscope.bluesky._stage import SpmStage as SpmStage

_PACKAGES = ("bluesky", "event_model", "ophyd_async")
_HOME_OF = {
    "SpmAxis": "_stage",
    "SpmLink": "_link",
    "SpmScan": "_scan",
    "SpmSignals": "_signals",
    "SpmSpectroscopy": "_spectroscopy",
    "SpmStage": "_stage",
}

__all__ = ["SpmAxis", "SpmLink", "SpmScan", "SpmSignals", "SpmSpectroscopy", "SpmStage"]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # The modules inside import these at their top; here the error says how to get them.
    for package in _PACKAGES:
        import_optional(package, "bluesky")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
