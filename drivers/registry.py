"""Finding drivers: built in or installed by others, by the entry-point group ``twinscope.drivers``."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from twinscope.drivers.base import Driver
from twinscope.errors import ConfigurationError, MissingPackageError

GROUP = "twinscope.drivers"


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """An installed driver, or the reason why it cannot be used."""

    name: str
    distribution: str
    version: str
    summary: str
    error: str | None


def installed() -> list[DriverInfo]:
    """List all drivers; a broken one is listed with its error."""
    return [_describe(entry) for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)]


def create(name: str, **options: Any) -> Driver:
    """Make the driver with this name, or of this class while it is being written: "package.module:Class".

    Raises
    ------
    ConfigurationError
        When there is no such driver, it cannot be loaded, or an option is wrong.
    MissingPackageError
        When a package that it needs is not installed.
    """
    return _load(name)(**options)


def _load(name: str) -> type[Driver]:
    if ":" in name:
        return _load_entry(EntryPoint(name, name, GROUP))
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in entries:
        known = ", ".join(sorted(entries)) or "none: is twinscope installed?"
        raise ConfigurationError(f"unknown driver {name!r}: installed drivers are {known}", name=name)
    return _load_entry(entries[name])


def _load_entry(entry: EntryPoint) -> type[Driver]:
    try:
        cls = entry.load()
    except ModuleNotFoundError as exc:
        extra = f": pip install 'twinscope[{entry.name}]'" if _is_ours(entry) else ""
        raise MissingPackageError(f"the driver {entry.name!r} needs the package {exc.name!r}{extra}") from exc
    # Loading runs the code of others: whatever it raises must not stop the server or the listing.
    except Exception as exc:
        raise ConfigurationError(f"the driver {entry.name!r} cannot be loaded: {type(exc).__name__}: {exc}") from exc
    missing = [
        member for member in ("name", "vendor", "summary", "open", "read", "poll", "stop") if not hasattr(cls, member)
    ]
    if missing:
        raise ConfigurationError(f"{entry.value} is not a driver: it has no {', '.join(missing)}")
    return cls  # type: ignore[no-any-return]


def _is_ours(entry: EntryPoint) -> bool:
    return entry.dist is not None and entry.dist.name == "twinscope"


def _describe(entry: EntryPoint) -> DriverInfo:
    distribution = entry.dist.name if entry.dist else "unknown"
    version = entry.dist.version if entry.dist else "unknown"
    try:
        cls = _load_entry(entry)
    except (ConfigurationError, MissingPackageError) as exc:
        return DriverInfo(entry.name, distribution, version, "", str(exc))
    return DriverInfo(entry.name, distribution, version, cls.summary, None)
