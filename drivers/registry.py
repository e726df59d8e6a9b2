"""Finding drivers: built in or installed by others, by the entry-point group ``twinscope.drivers``."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from twinscope.drivers.base import API_VERSION, Driver
from twinscope.drivers.options import DriverOptions, Option
from twinscope.errors import ConfigurationError, MissingPackageError

GROUP = "twinscope.drivers"


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """An installed driver, or the reason why it cannot be used.

    Attributes
    ----------
    name
        Of the entry point.
    distribution, version
        What it was installed with.
    vendor, summary, provides
        See :class:`~twinscope.drivers.base.Driver`; empty for one that cannot be used.
    options
        What can be set.
    error
        Why it cannot be used, or None.
    """

    name: str
    distribution: str
    version: str
    vendor: str
    summary: str
    provides: tuple[str, ...]
    options: tuple[Option, ...]
    error: str | None


def installed() -> list[DriverInfo]:
    """List all drivers; a broken one is listed with its error."""
    return [_describe(entry) for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)]


def load(name: str) -> type[Driver]:
    """Return the class of a driver by its name, or while it is being written by its place: "package.module:Class".

    Raises
    ------
    ConfigurationError
        When there is no such driver or more than one, it cannot be loaded, or was written for another interface.
    MissingPackageError
        When a package that it needs is not installed.
    """
    if ":" in name:
        return _load_entry(EntryPoint(name, name, GROUP))
    entries = list(entry_points(group=GROUP))
    found = [entry for entry in entries if entry.name == name]
    if not found:
        known = ", ".join(sorted(entry.name for entry in entries)) or "none: is twinscope installed?"
        raise ConfigurationError(f"unknown driver {name!r}: installed drivers are {known}", name=name)
    if len(found) > 1:
        places = ", ".join(sorted(entry.value for entry in found))
        raise ConfigurationError(f"several packages have a driver {name!r}: name one by its place, {places}", name=name)
    return _load_entry(found[0])


def create(name: str, **options: Any) -> Driver:
    """Make the driver with this name; see :func:`load`.

    Raises
    ------
    ConfigurationError
        As :func:`load` does, or when an option is wrong.
    MissingPackageError
        When a package that it needs is not installed.
    """
    return load(name)(**options)


_MEMBERS = ("name", "vendor", "summary", "api_versions", "options_type", "provides", "open", "read", "poll", "stop")


def _load_entry(entry: EntryPoint) -> type[Driver]:
    try:
        cls = entry.load()
    except ModuleNotFoundError as exc:
        if entry.dist is None and exc.name is not None and f"{entry.module}.".startswith(f"{exc.name}."):
            raise ConfigurationError(
                f"the driver {entry.name!r} is not there: no module {exc.name!r} is installed or in the current folder",
                name=entry.name,
            ) from exc
        extra = f": pip install 'twinscope[{entry.name}]'" if _is_ours(entry) else ""
        raise MissingPackageError(f"the driver {entry.name!r} needs the package {exc.name!r}{extra}") from exc
    # Loading runs the code of others: whatever it raises must not stop the server or the listing.
    except (Exception, SystemExit) as exc:
        raise ConfigurationError(f"the driver {entry.name!r} cannot be loaded: {type(exc).__name__}: {exc}") from exc
    missing = [member for member in _MEMBERS if not hasattr(cls, member)]
    if missing:
        raise ConfigurationError(f"{entry.value} is not a driver: it has no {', '.join(missing)}")
    _check_words(entry.value, cls)
    _check_options(entry.value, cls.options_type)
    _check_versions(entry.name, cls.api_versions)
    return cls  # type: ignore[no-any-return]


def _check_words(place: str, cls: Any) -> None:
    """Raise :class:`ConfigurationError` unless a driver can be listed."""
    for member in ("name", "vendor", "summary"):
        if not isinstance(getattr(cls, member), str):
            raise ConfigurationError(f"{place} has {member} {getattr(cls, member)!r}: expected text", name=member)
    if not (isinstance(cls.provides, tuple) and all(isinstance(trait, str) for trait in cls.provides)):
        raise ConfigurationError(f"{place} has provides {cls.provides!r}: expected a tuple of text", name="provides")


def _check_options(place: str, options_type: Any) -> None:
    """Raise :class:`ConfigurationError` unless the options of a driver can be told."""
    if not (isinstance(options_type, type) and issubclass(options_type, DriverOptions)):
        raise ConfigurationError(f"{place} has options_type {options_type!r}: expected a DriverOptions")
    try:
        options_type.describe()
    # Annotations and factories of defaults are code of others, too.
    except Exception as exc:
        raise ConfigurationError(f"the options of {place} cannot be told: {type(exc).__name__}: {exc}") from exc


def _check_versions(name: str, versions: Any) -> None:
    """Raise :class:`ConfigurationError` unless a driver was written for this interface."""
    whole = isinstance(versions, tuple) and len(versions) == 2 and all(type(number) is int for number in versions)
    if not whole or versions[0] > versions[1]:
        raise ConfigurationError(
            f"the driver {name!r} has api_versions = {versions!r}: expected the lowest and the highest, as (1, 1)",
            name=name,
        )
    if not versions[0] <= API_VERSION <= versions[1]:
        older = "the driver" if versions[1] < API_VERSION else "twinscope"
        raise ConfigurationError(
            f"the driver {name!r} was written for versions {versions[0]} to {versions[1]} of the driver interface, this"
            f" is {API_VERSION}: install a newer version of {older}",
            name=name,
        )


def _is_ours(entry: EntryPoint) -> bool:
    return entry.dist is not None and entry.dist.name == "twinscope"


def _describe(entry: EntryPoint) -> DriverInfo:
    distribution = entry.dist.name if entry.dist else "unknown"
    version = entry.dist.version if entry.dist else "unknown"
    try:
        cls = _load_entry(entry)
    except (ConfigurationError, MissingPackageError) as exc:
        return DriverInfo(entry.name, distribution, version, "", "", (), (), str(exc))
    return DriverInfo(
        entry.name, distribution, version, cls.vendor, cls.summary, cls.provides, cls.options_type.describe(), None
    )
