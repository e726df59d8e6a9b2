"""Packages that are not everybody's."""

import importlib
from types import ModuleType

from twinscope.errors import MissingPackageError


def import_optional(name: str, extra: str, what: str = "this") -> ModuleType:
    """Import a package that the extra with this name installs; `what` needs it.

    Raises
    ------
    MissingPackageError
        When it is not there; the message says how to get it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        package = name.partition(".")[0]
        raise MissingPackageError(f"{what} needs the package {package!r}: pip install 'twinscope[{extra}]'") from exc
