"""What the controller is."""

from collections.abc import Mapping
from typing import Any

from twinscope._version import __version__
from twinscope.gateway.call import Call

# Of the release whose protocol document the commands come from; clients choose their dialect by it.
_RELEASE = 13742


def _version(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del call, given
    return {
        "product_line": "Nanonis SPM Control Software",
        "version": f"Generic 5 (twinscope {__version__})",
        "host_app_release": _RELEASE,
        "rt_engine_release": _RELEASE,
    }


HANDLERS = {"Util.VersionGet": _version}
