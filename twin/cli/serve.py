"""The commands that run an instrument: ``twinscope serve``, and what helps to choose one."""

import argparse
import signal
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscope._version import __version__
from twinscope.cli.options import (
    USAGE,
    AddCommand,
    add_data_option,
    add_token_option,
    add_twin_options,
    driver_options,
    numbers,
    size,
    token_of,
)
from twinscope.errors import ConfigurationError
from twinscope.protocol import DEFAULT_PORT

if TYPE_CHECKING:
    from twinscope.drivers.base import Driver
    from twinscope.gateway import NanonisGateway
    from twinscope.service import Service


def serve(options: argparse.Namespace) -> int:
    """Offer an instrument to clients until Ctrl-C or SIGTERM."""
    if options.restart:
        return _serve_again_and_again(options)
    _check_nanonis(options)
    from twinscope.local import served_instrument
    from twinscope.network.server import Server

    interlocks = _interlocks(options)
    instrument = served_instrument(options.driver, options.data, driver_options(options), interlocks)
    host = options.host if options.socket is None else f"unix:{options.socket}"
    server = Server(instrument, host, options.port, token_of(options), keys=options.keys, mutual=options.mutual)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    gateway = _nanonis_gateway(options, server.service, interlocks)
    instrument.start()
    try:
        print(f"twinscope {__version__} serves a {instrument.capabilities.instrument}", flush=True)
        if gateway is not None:
            gateway.start()
            print(f"Nanonis clients come in at 127.0.0.1, ports {' '.join(map(str, gateway.ports))}", flush=True)
        print(f"at {server.uri}; Ctrl-C stops it" + ("; clients need --keys" if server.encrypts else ""), flush=True)
        server.run()
    finally:
        # Whatever the end of the others is like, the tip is withdrawn.
        try:
            print("stopping: withdrawing the tip", flush=True)
            if gateway is not None:
                gateway.close()
        finally:
            instrument.close()
    return 0


def _check_nanonis(options: argparse.Namespace) -> None:
    """Refuse options of the gateway that would have no effect, and ports that are there twice."""
    changed = {
        "--nanonis-ports": options.nanonis_ports is not None,
        "--nanonis-role": options.nanonis_role != "operator",
        "--nanonis-idle": options.nanonis_idle is not None,
        "--nanonis-errors": options.nanonis_errors != "short",
    }
    useless = [name for name, is_changed in changed.items() if is_changed]
    if useless and not options.nanonis:
        raise ConfigurationError(f"{useless[0]} was given, but no Nanonis client is answered: give --nanonis, too")
    chosen = [port for port in options.nanonis_ports or () if port]
    if len(set(chosen)) < len(chosen):
        raise ConfigurationError(f"--nanonis-ports is {','.join(map(str, chosen))}: expected each port once")


def _nanonis_gateway(
    options: argparse.Namespace, service: "Service", interlocks: Mapping[str, Any]
) -> "NanonisGateway | None":
    """Make what answers Nanonis clients, if it was asked for."""
    if not options.nanonis:
        return None
    from twinscope.gateway import IDLE_TIME, PORTS, NanonisGateway
    from twinscope.interlocks import Interlocks
    from twinscope.nanonis_protocol import ErrorDialect
    from twinscope.sessions import Role

    return NanonisGateway(
        service,
        options.nanonis_ports or PORTS,
        role=Role.parse(options.nanonis_role),
        interlocks=Interlocks.from_dict(interlocks),
        idle_time=IDLE_TIME if options.nanonis_idle is None else options.nanonis_idle,
        dialect=ErrorDialect(options.nanonis_errors),
    )


def drivers(options: argparse.Namespace) -> int:
    """List the installed drivers, or tell what can be set about one."""
    from twinscope.drivers import registry

    if options.name is not None:
        _print_driver(registry.load(options.name))
        return 0
    for info in registry.installed():
        print(f"{info.name:<12} {info.distribution} {info.version}" + (f", {info.vendor}" if info.vendor else ""))
        if info.error:
            print(f"{'':<12} cannot be used: {info.error}")
        else:
            print(f"{'':<12} {info.summary}\n{'':<12} can, if it is set up so: {', '.join(info.provides)}")
    return 0


def _print_driver(driver: "type[Driver]") -> None:
    """Print what a driver is and the options that it takes."""
    print(f"{driver.name}, {driver.vendor}: {driver.summary}")
    for option in driver.options_type.describe():
        given = "must be given" if option.required else f"default {option.default}"
        print(f"{option.name:<20} {option.kind} ({given})")


def demo(options: argparse.Namespace) -> int:
    """Serve a simulated microscope in another process, scan a molecule with it, and show the picture."""
    from twinscope import demo as demonstration

    return demonstration.run(options.molecule, options.output, options.size)


def add_commands(add: AddCommand) -> None:
    """Add the commands of this module."""
    sub = add("serve", serve)
    sub.add_argument("--driver", default="simulator", help="an installed driver (default: %(default)s)")
    sub.add_argument("--driver-config", type=Path, metavar="FILE", help="TOML file with the options of the driver")
    sub.add_argument("--sample", help="simulator: molecule of the library, or a file that ASE reads")
    add_twin_options(sub)
    _add_listening_options(sub)
    _add_nanonis_options(sub)
    add_data_option(sub)
    sub.add_argument("--interlocks", type=Path, metavar="FILE", help="TOML file with the rules that keep the tip safe")
    sub.add_argument(
        "--restart", action=argparse.BooleanOptionalAction, default=False, help="start again when the server dies"
    )

    sub = add("drivers", drivers)
    sub.add_argument("name", nargs="?", help="tell the options of this one")

    sub = add("demo", demo)
    sub.add_argument("molecule", nargs="?", default="pentacene", help="as for simulate (default: %(default)s)")
    sub.add_argument("--output", type=Path, default=Path("demo"), help="folder (default: %(default)s)")
    sub.add_argument("--size", type=size, help="width, or WIDTHxHEIGHT, of the frame in nm (default: 2)")


def _add_listening_options(sub: argparse.ArgumentParser) -> None:
    where = sub.add_mutually_exclusive_group()
    where.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine only)")
    where.add_argument("--socket", type=Path, help="listen on a Unix socket, which only this user can open")
    sub.add_argument("--port", type=_port, default=DEFAULT_PORT, help="0 takes a free one (default: %(default)s)")
    sub.add_argument("--keys", type=Path, help="folder made by `twinscope keys init`: clients come with TLS")
    sub.add_argument("--mutual", action="store_true", help="with --keys: only clients with a certificate")
    add_token_option(sub)


def _add_nanonis_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--nanonis", action="store_true", help="answer Nanonis clients of this machine, too")
    sub.add_argument(
        "--nanonis-ports",
        type=_ports,
        metavar="PORT,...",
        help="one for each client, 0 takes a free one (default: 6501,6502,6503,6504)",
    )
    sub.add_argument(
        "--nanonis-role",
        choices=("observer", "operator"),
        default="operator",
        help="what Nanonis clients may do (default: %(default)s)",
    )
    sub.add_argument(
        "--nanonis-idle",
        type=_duration,
        metavar="S",
        help="they give control back after so long without a change (default: 300)",
    )
    sub.add_argument(
        "--nanonis-errors",
        choices=("short", "long"),
        default="short",
        help="form of the error block; long for nanonisTCP with releases after 14000 (default: %(default)s)",
    )


def _duration(text: str) -> float:
    (seconds,) = numbers(text, " ", (1,), "300")
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text!r} was given, expected a number of seconds above 0")
    return seconds


def _ports(text: str) -> tuple[int, ...]:
    return tuple(_port(part.strip()) for part in text.split(","))


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} was given, expected a number from 0 to 65535")
    return int(text)


def _interlocks(options: argparse.Namespace) -> dict[str, Any]:
    """Read the rules of ``--interlocks``."""
    if options.interlocks is None:
        return {}
    from twinscope.interlocks import Interlocks

    try:
        rules = tomllib.loads(options.interlocks.read_text(encoding="utf-8"))
        Interlocks.from_dict(rules)
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"the interlocks of {options.interlocks} cannot be used: {exc}") from exc
    return rules


def _serve_again_and_again(options: argparse.Namespace) -> int:
    """Run the same command in a process of its own, at the same port after each start."""
    from twinscope.network._sockets import listen, remove
    from twinscope.supervisor import Supervisor

    port = []
    if options.socket is None and options.port == 0:
        listening, address = listen(options.host, 0)
        remove(listening, address)
        port = ["--port", str(address.port)]
    command = [sys.executable, "-m", "twinscope", *options.arguments, "--no-restart", *port]
    return Supervisor(command, USAGE).run()
