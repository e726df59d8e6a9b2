"""The command line.

Exit codes: 0 done, 1 it failed, 2 the command or its values are wrong, 3 the server cannot be used, 130 interrupted.
"""

import argparse
import logging
import os
import signal
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscope import cli_keys
from twinscope._version import __version__
from twinscope.errors import ConfigurationError, InvalidRequestError, RemoteError, TwinscopeError
from twinscope.protocol import DEFAULT_PORT

if TYPE_CHECKING:
    from twinscope.acquisition import Acquisition
    from twinscope.microscope import Microscope
    from twinscope.requests import ScanRequest
    from twinscope.results import Measurement

FAILED, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments, argparse.Namespace(arguments=arguments))
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (InvalidRequestError, ConfigurationError) as exc:
        return _complain(exc, USAGE)
    except RemoteError as exc:
        return _complain(exc, UNREACHABLE)
    except TwinscopeError as exc:
        return _complain(exc, FAILED)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as in `twinscope drivers | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


# ---------------------------------------------------------------------- commands


def serve(options: argparse.Namespace) -> int:
    """Offer an instrument to clients until Ctrl-C or SIGTERM."""
    if options.restart:
        return _serve_again_and_again(options)
    from twinscope.local import served_instrument
    from twinscope.server import Server

    instrument = served_instrument(options.driver, options.data, _driver_options(options), _interlocks(options))
    host = options.host if options.socket is None else f"unix:{options.socket}"
    server = Server(instrument, host, options.port, _token(options), keys=options.keys, mutual=options.mutual)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    instrument.start()
    print(f"twinscope {__version__} serves a {instrument.capabilities.instrument}", flush=True)
    print(f"at {server.uri}; Ctrl-C stops it" + ("; clients need --keys" if server.encrypts else ""), flush=True)
    try:
        server.run()
    finally:
        print("stopping: withdrawing the tip", flush=True)
        instrument.close()
    return 0


def status(options: argparse.Namespace) -> int:
    """Print what an instrument is doing."""
    with _connect(options) as scope:
        state, capabilities = scope.state(), scope.capabilities()
    print(f"instrument   {capabilities.instrument}")
    print(f"driver       {capabilities.driver} {capabilities.driver_version}")
    print(f"status       {state.status}" + (f": {state.error}" if state.error else ""))
    print(f"tip          {state.tip}")
    if state.position is not None:
        x, y, z = (value * 1e9 for value in (state.position.x, state.position.y, state.position.z))
        print(f"position     x {x:.4f} nm, y {y:.4f} nm, z {z:.4f} nm")
    print(f"time         {state.time:.3f} s")
    held = "nobody" if state.lease is None else f"{state.lease['holder']} {state.lease['purpose']}"
    print(f"held by      {held}")
    print(f"acquisition  {state.acquisition or 'none'}")
    print("channels     " + ", ".join(f"{channel.name} ({channel.unit})" for channel in capabilities.channels))
    for name, limits in capabilities.limits.items():
        print(f"range of {name}   {limits.low * 1e9:.4g} to {limits.high * 1e9:.4g} n{limits.unit}")
    return 0


def scan(options: argparse.Namespace) -> int:
    """Scan with an instrument behind a server."""
    request = _request(options)
    with _connect(options) as scope:
        return _scan(scope, request, options)


def simulate(options: argparse.Namespace) -> int:
    """Scan a molecule in this process, without a server."""
    from twinscope.microscope import Microscope

    request = _request(options)
    with Microscope("simulator", directory=options.data, **_driver_options(options)) as scope:
        return _scan(scope, request, options)


def watch(options: argparse.Namespace) -> int:
    """Follow the acquisition in progress, without holding the instrument."""
    with _connect(options) as scope:
        acquisition = scope.current_acquisition()
        if acquisition is None:
            print("nothing has been acquired yet")
            return 0
        _follow(acquisition)
        print(f"{acquisition.id}: {acquisition.progress().state}")
    return 0


def approach(options: argparse.Namespace) -> int:
    """Bring the tip to its working height."""
    return _move_tip(options, "approach")


def withdraw(options: argparse.Namespace) -> int:
    """Take the tip away from the sample, whatever the instrument is doing."""
    return _move_tip(options, "withdraw")


def drivers(options: argparse.Namespace) -> int:
    """List the installed drivers."""
    del options
    from twinscope.drivers import registry

    for info in registry.installed():
        text = f"cannot be used: {info.error}" if info.error else info.summary
        print(f"{info.name:<12} {info.distribution} {info.version}: {text}")
    return 0


def demo(options: argparse.Namespace) -> int:
    """Serve a simulated microscope in another process, scan a molecule with it, and show the picture."""
    from twinscope import demo as demonstration

    return demonstration.run(options.molecule, options.output, options.size)


# ---------------------------------------------------------------------- what they share


def _connect(options: argparse.Namespace) -> "Microscope":
    from twinscope.microscope import connect

    return connect(options.address, token=_token(options), keys=options.keys)


def _serve_again_and_again(options: argparse.Namespace) -> int:
    """Run the same command in a process of its own, at the same port after each start."""
    from twinscope._sockets import listen, remove
    from twinscope.supervisor import Supervisor

    port = []
    if options.socket is None and options.port == 0:
        listening, address = listen(options.host, 0)
        remove(listening, address)
        port = ["--port", str(address.port)]
    command = [sys.executable, "-m", "twinscope", *options.arguments, "--no-restart", *port]
    return Supervisor(command, USAGE).run()


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


def _move_tip(options: argparse.Namespace, way: str) -> int:
    with _connect(options) as scope, scope.control(purpose=f"twinscope {way}"):
        position = scope.approach() if way == "approach" else scope.withdraw()
    print(f"the tip is at z = {position.z * 1e9:.4f} nm")
    return 0


def _request(options: argparse.Namespace) -> "ScanRequest":
    """Make the scan that is asked for, and see that its results have a place to go."""
    from twinscope.requests import ScanFrame, ScanRequest

    for path in (options.output, options.png):
        if path is not None and path.exists() and not options.overwrite:
            raise InvalidRequestError(f"{path} exists already: choose another name, or give --overwrite")
    if options.png is not None and options.png.suffix.lower() != ".png":
        raise InvalidRequestError(f"the picture {options.png} is to be a PNG: expected a name that ends in .png")
    return ScanRequest(
        frame=ScanFrame(size=options.size, center=options.center, angle=options.angle),
        pixels=options.pixels,
        channels=options.channels,
        heights=options.heights,
        direction=options.direction,
        line_time=options.line_time,
    )


def _scan(scope: "Microscope", request: "ScanRequest", options: argparse.Namespace) -> int:
    with scope.control(purpose="twinscope scan"):
        acquisition = scope.acquire(request)
        try:
            _follow(acquisition)
            result: Measurement = acquisition.result()
        except KeyboardInterrupt:
            print("interrupted: aborting the scan and withdrawing the tip", file=sys.stderr)
            acquisition.abort()
            scope.withdraw()
            _write(acquisition.partial(), options)
            return INTERRUPTED
    for warning in result.metadata["warnings"]:
        print(f"note: {warning}", file=sys.stderr)
    _write(result, options)
    return 0


def _follow(acquisition: "Acquisition") -> None:
    """Show a progress bar until an acquisition is over."""
    from tqdm import tqdm

    for _ in tqdm(acquisition.lines(), total=len(acquisition), unit="line", desc="scan"):
        pass


def _write(result: "Measurement", options: argparse.Namespace) -> None:
    if options.output is not None:
        if options.overwrite:
            options.output.unlink(missing_ok=True)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        print(f"data     {result.save(options.output)}")
    if options.png is not None:
        from twinscope.plotting import save_picture

        print(f"picture  {save_picture(result, options.png)}")


def _token(options: argparse.Namespace) -> str | None:
    if options.token_file is None:
        return os.environ.get("TWINSCOPE_TOKEN")
    try:
        token: str = options.token_file.read_text().strip()
    except OSError as exc:
        raise ConfigurationError(f"the token file cannot be read: {exc}") from exc
    if not token:
        raise ConfigurationError(f"the token file {options.token_file} is empty: expected a token")
    return token


def _driver_options(options: argparse.Namespace) -> dict[str, Any]:
    """Collect the driver's options: those with a flag of their own, then ``--set``."""
    given = {name: getattr(options, name, None) for name in ("sample", "tip", "clock", "seed", "orientation")}
    return {name: value for name, value in given.items() if value is not None} | dict(options.set or [])


def _complain(exc: TwinscopeError, code: int) -> int:
    print(f"twinscope: {exc.message}", file=sys.stderr)
    return code


# ---------------------------------------------------------------------- parsing


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="twinscope", description="A scanning-probe microscope to script remotely.")
    parser.add_argument("--version", action="version", version=f"twinscope {__version__}")
    parser.add_argument("--verbose", action="store_true", help="tell more on stderr")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        text = command.__doc__ or ""
        sub = commands.add_parser(name, help=text[0].lower() + text[1:].rstrip("."), description=text)
        sub.set_defaults(command=command)
        return sub

    sub = add("serve", serve)
    sub.add_argument("--driver", default="simulator", help="an installed driver (default: %(default)s)")
    sub.add_argument("--sample", help="simulator: molecule of the library, or a file that ASE reads")
    _add_twin_options(sub)
    _add_listening_options(sub)
    _add_data_option(sub)
    sub.add_argument("--interlocks", type=Path, metavar="FILE", help="TOML file with the rules that keep the tip safe")
    sub.add_argument(
        "--restart", action=argparse.BooleanOptionalAction, default=False, help="start again when the server dies"
    )

    for name, command in (("status", status), ("watch", watch), ("approach", approach), ("withdraw", withdraw)):
        _add_address_options(add(name, command))

    sub = add("scan", scan)
    _add_address_options(sub)
    _add_scan_options(sub)
    sub.add_argument("--output", type=Path, help="HDF5 file to write here (the server has its own)")
    sub.add_argument("--png", type=Path, help="picture to write")

    sub = add("simulate", simulate)
    sub.add_argument("sample", help="molecule of the library, or a file that ASE reads")
    _add_twin_options(sub)
    _add_scan_options(sub, heights="450:360:10")
    _add_data_option(sub)
    sub.add_argument("--output", type=Path, default=Path("simulation.h5"), help="HDF5 file (default: %(default)s)")
    sub.add_argument("--png", type=Path, default=Path("simulation.png"), help="picture (default: %(default)s)")

    add("drivers", drivers)

    cli_keys.add_commands(
        commands.add_parser("keys", help="say who may connect over a network", description=cli_keys.__doc__)
    )

    sub = add("demo", demo)
    sub.add_argument("molecule", nargs="?", default="pentacene", help="as for simulate (default: %(default)s)")
    sub.add_argument("--output", type=Path, default=Path("demo"), help="folder (default: %(default)s)")
    sub.add_argument("--size", type=_size, help="width, or WIDTHxHEIGHT, of the frame in nm (default: 2)")
    return parser


def _add_address_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--address", default="localhost", help="host, host:port, unix:/path or URI (default: %(default)s)")
    sub.add_argument("--keys", type=Path, help="for TLS: folder of our keys, or ca.pem (default: $TWINSCOPE_KEYS)")
    _add_token_option(sub)


def _add_listening_options(sub: argparse.ArgumentParser) -> None:
    where = sub.add_mutually_exclusive_group()
    where.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine only)")
    where.add_argument("--socket", type=Path, help="listen on a Unix socket, which only this user can open")
    sub.add_argument("--port", type=_port, default=DEFAULT_PORT, help="0 takes a free one (default: %(default)s)")
    sub.add_argument("--keys", type=Path, help="folder made by `twinscope keys init`: clients come with TLS")
    sub.add_argument("--mutual", action="store_true", help="with --keys: only clients with a certificate")
    _add_token_option(sub)


def _add_token_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--token-file", type=Path, help="file with the shared token (default: $TWINSCOPE_TOKEN, if set)")


def _add_data_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--data", type=Path, default=Path("twinscope-data"), help="folder of the instrument's files (%(default)s)"
    )


def _add_twin_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--tip", help="simulator: CO, Xe, Cl, H2O or Cu")
    sub.add_argument("--clock", help="simulator: realtime, accelerated, or a rate")
    sub.add_argument("--seed", help="simulator: of all randomness")
    sub.add_argument("--orientation", help="simulator: file, or flat to lay a molecule flat")
    sub.add_argument(
        "--set", action="append", type=_assignment, metavar="KEY=VALUE", help="any option of the driver, as in TOML"
    )


def _add_scan_options(sub: argparse.ArgumentParser, heights: str | None = None) -> None:
    sub.add_argument("--size", type=_size, default="2", help="width, or WIDTHxHEIGHT, of the frame in nm (%(default)s)")
    sub.add_argument("--center", type=_center, default="0,0", metavar="X,Y", help="of the frame, in nm (%(default)s)")
    sub.add_argument("--angle", type=float, default=0.0, help="of the frame, in degrees (%(default)s)")
    sub.add_argument("--pixels", type=_pixels, default="128", help="N, or NXxNY (%(default)s)")
    sub.add_argument("--channels", type=_names, default="frequency_shift", help="names with commas (%(default)s)")
    sub.add_argument(
        "--heights",
        type=_heights,
        default=heights,
        metavar="FROM:TO:N",
        help="stack of constant heights, in pm (default: " + (heights or "one image at the present height") + ")",
    )
    sub.add_argument("--direction", default="forward", help="forward, backward or both (%(default)s)")
    sub.add_argument("--line-time", type=float, default=1.0, help="seconds per line (%(default)s)")
    sub.add_argument("--overwrite", action="store_true", help="write over existing files")


def _numbers(text: str, separator: str, counts: tuple[int, ...], example: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(separator)]
    except ValueError:
        numbers = []
    if len(numbers) not in counts:
        raise argparse.ArgumentTypeError(f"{text!r} was given, expected something like {example}")
    return numbers


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} was given, expected a number from 0 to 65535")
    return int(text)


def _size(text: str) -> tuple[float, float]:
    width, *height = _numbers(text, "x", (1, 2), "2 or 2x1.5")
    return width * 1e-9, (height or [width])[0] * 1e-9


def _center(text: str) -> tuple[float, float]:
    x, y = _numbers(text, ",", (2,), "0.5,-0.2")
    return x * 1e-9, y * 1e-9


def _pixels(text: str) -> tuple[int, int]:
    nx, *ny = _numbers(text, "x", (1, 2), "128 or 128x96")
    if not all(n.is_integer() for n in (nx, *ny)):
        raise argparse.ArgumentTypeError(f"{text!r} was given, expected whole numbers")
    return int(nx), int((ny or [nx])[0])


def _heights(text: str) -> list[float]:
    start, stop, count = _numbers(text, ":", (3,), "450:360:10")
    if not (count.is_integer() and count >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} was given, expected a whole number of heights")
    step = (stop - start) / max(int(count) - 1, 1)
    return [(start + i * step) * 1e-12 for i in range(int(count))]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (key.strip() and equals):
        raise argparse.ArgumentTypeError(f"{text!r} was given, expected KEY=VALUE")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value
