"""What several commands share: their options, how these are read, and how results are told."""

import argparse
import json
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscope.errors import ConfigurationError

if TYPE_CHECKING:
    from twinscope.acquisition import Acquisition
    from twinscope.microscope import Microscope
    from twinscope.network.remote import PyroTransport

FAILED, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130
"""Exit codes; see :mod:`twinscope.cli`."""

Command = Callable[[argparse.Namespace], int]
"""Carries out a command and returns its exit code; its docstring is the help."""

AddCommand = Callable[[str, Command], argparse.ArgumentParser]
"""Adds a command of a name and returns the parser of its options."""

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M"}


# ---------------------------------------------------------------------- the way to an instrument


def connect(options: argparse.Namespace) -> "Microscope":
    """Connect to the server of ``--address``."""
    from twinscope.microscope import Microscope

    return Microscope(transport=transport_of(options))


def transport_of(options: argparse.Namespace) -> "PyroTransport":
    """Make the way to the server of ``--address``, with what it asks for."""
    from twinscope.network.remote import PyroTransport

    keys = options.keys or os.environ.get("TWINSCOPE_KEYS") or None
    return PyroTransport(options.address, token_of(options), keys=keys)


def token_of(options: argparse.Namespace) -> str | None:
    """Return the token of ``--token-file`` or of the environment."""
    if options.token_file is None:
        return os.environ.get("TWINSCOPE_TOKEN")
    try:
        token: str = options.token_file.read_text().strip()
    except OSError as exc:
        raise ConfigurationError(f"the token file cannot be read: {exc}") from exc
    if not token:
        raise ConfigurationError(f"the token file {options.token_file} is empty: expected a token")
    return token


def driver_options(options: argparse.Namespace) -> dict[str, Any]:
    """Collect the driver's options: of ``--driver-config``, then those with a flag of their own, then ``--set``."""
    file = getattr(options, "driver_config", None)
    names = ("sample", "tip", "clock", "seed", "orientation", "realism")
    given = {name: getattr(options, name, None) for name in names}
    if options.world:
        given["world"] = {}
    flags = {name: value for name, value in given.items() if value is not None}
    return _options_of_file(file) | flags | dict(options.set or [])


def _options_of_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    from twinscope.drivers.options import read_options

    return read_options(file)


# ---------------------------------------------------------------------- groups of options


def add_address_options(sub: argparse.ArgumentParser) -> None:
    """Add what :func:`connect` needs."""
    sub.add_argument("--address", default="localhost", help="host, host:port, unix:/path or URI (default: %(default)s)")
    sub.add_argument("--keys", type=Path, help="for TLS: folder of our keys, or ca.pem (default: $TWINSCOPE_KEYS)")
    add_token_option(sub)


def add_control_options(sub: argparse.ArgumentParser) -> None:
    """Add what a command needs that takes control."""
    add_address_options(sub)
    sub.add_argument("--wait", type=float, default=0.0, metavar="S", help="wait so long for someone else to let go (0)")


def add_token_option(sub: argparse.ArgumentParser) -> None:
    """Add ``--token-file``."""
    sub.add_argument("--token-file", type=Path, help="file with the token (default: $TWINSCOPE_TOKEN, if set)")


def add_data_option(sub: argparse.ArgumentParser) -> None:
    """Add ``--data``."""
    sub.add_argument(
        "--data", type=Path, default=Path("twinscope-data"), help="folder of the instrument's files (%(default)s)"
    )


def add_twin_options(sub: argparse.ArgumentParser) -> None:
    """Add the options of the simulator that are wanted most, and ``--set`` for all."""
    sub.add_argument("--world", action="store_true", help="simulator: a surface with many molecules, not one sample")
    sub.add_argument("--realism", help="simulator: clean, low_temperature or room_temperature")
    sub.add_argument("--tip", help="simulator: CO, Xe, Cl, H2O or Cu")
    sub.add_argument("--clock", help="simulator: realtime, accelerated, or a rate")
    sub.add_argument("--seed", type=int, help="simulator: of all randomness")
    sub.add_argument("--orientation", help="simulator: file, or flat to lay a molecule flat")
    sub.add_argument(
        "--set", action="append", type=_assignment, metavar="KEY=VALUE", help="any option of the driver, as in TOML"
    )


# ---------------------------------------------------------------------- reading values


def numbers(text: str, separator: str, counts: tuple[int, ...], example: str) -> list[float]:
    """Read numbers with a separator between them, as many as one of `counts`."""
    try:
        read = [float(part) for part in text.split(separator)]
    except ValueError:
        read = []
    if len(read) not in counts:
        raise argparse.ArgumentTypeError(f"{text!r} was given, expected something like {example}")
    return read


def size(text: str) -> tuple[float, float]:
    """Read a width, or width and height, in nm; returned in m."""
    width, *height = numbers(text, "x", (1, 2), "2 or 2x1.5")
    return width * 1e-9, (height or [width])[0] * 1e-9


def _assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (key.strip() and equals):
        raise argparse.ArgumentTypeError(f"{text!r} was given, expected KEY=VALUE")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


# ---------------------------------------------------------------------- telling people


def follow(acquisition: "Acquisition") -> None:
    """Show a progress bar until an acquisition is over."""
    from tqdm import tqdm

    for _ in tqdm(acquisition.lines(), total=len(acquisition), unit="line", desc=acquisition.request.kind):
        pass


def plain_text(fields: Mapping[str, Any]) -> str:
    """Write plain data in a line: ``name=value`` for each."""
    return " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in fields.items()
    )


def quantity(unit: str, *values: float, between: str = " to ") -> str:
    """Write values with one prefix for all of them: "-50 to 50 nm"."""
    scale, unit = _scale(unit, max(abs(value) for value in values))
    text = between.join(f"{value / scale:.5g}" for value in values)
    return f"{text} {unit}".strip()


def _scale(unit: str, largest: float) -> tuple[float, str]:
    if unit == "1":
        return 1.0, ""
    fitting = [power for power in _PREFIXES if largest >= 0.9999 * 10.0**power]
    power = fitting[-1] if fitting and largest else 0
    return 10.0**power, _PREFIXES[power] + unit
