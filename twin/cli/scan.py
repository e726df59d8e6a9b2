"""The commands that scan: with an instrument behind a server, or with a simulated one in this process."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope.cli.options import (
    INTERRUPTED,
    AddCommand,
    add_control_options,
    add_data_option,
    add_twin_options,
    connect,
    driver_options,
    follow,
    numbers,
    size,
)
from twinscope.errors import InvalidRequestError

if TYPE_CHECKING:
    from twinscope.microscope import Microscope
    from twinscope.requests import ScanRequest
    from twinscope.results import Measurement

_STACK = "450:360:10"
"""Heights of ``simulate``."""


def scan(options: argparse.Namespace) -> int:
    """Scan with an instrument behind a server."""
    request = _request(options)
    with connect(options) as scope:
        if options.dry_run:
            return _try(scope, request, options)
        return _scan(scope, request, options)


def simulate(options: argparse.Namespace) -> int:
    """Scan a molecule in this process, without a server."""
    from twinscope.microscope import Microscope

    if options.heights is None and options.z_mode is None:
        options.heights = _heights(_STACK)
    request = _request(options)
    with Microscope("simulator", directory=options.data, **driver_options(options)) as scope:
        return _scan(scope, request, options)


def add_commands(add: AddCommand) -> None:
    """Add the commands of this module."""
    sub = add("scan", scan)
    add_control_options(sub)
    _add_scan_options(sub, "one image at the present height")
    sub.add_argument(
        "--on-lease-loss",
        default="continue",
        help="when this command dies: continue, pause or abort_and_withdraw (%(default)s)",
    )
    sub.add_argument("--dry-run", action="store_true", help="only ask whether it would be done")
    sub.add_argument("--output", type=Path, help="HDF5 file to write here (the server has its own)")
    sub.add_argument("--png", type=Path, help="picture to write")

    sub = add("simulate", simulate)
    sub.add_argument("sample", nargs="?", help="molecule of the library, or a file that ASE reads (pentacene)")
    add_twin_options(sub)
    _add_scan_options(sub, _STACK)
    add_data_option(sub)
    sub.add_argument("--output", type=Path, default=Path("simulation.h5"), help="HDF5 file (default: %(default)s)")
    sub.add_argument("--png", type=Path, default=Path("simulation.png"), help="picture (default: %(default)s)")
    sub.set_defaults(wait=0.0, on_lease_loss="continue")


def _add_scan_options(sub: argparse.ArgumentParser, heights: str) -> None:
    sub.add_argument("--size", type=size, default="2", help="width, or WIDTHxHEIGHT, of the frame in nm (%(default)s)")
    sub.add_argument("--center", type=_center, default="0,0", metavar="X,Y", help="of the frame, in nm (%(default)s)")
    sub.add_argument("--angle", type=float, default=0.0, help="of the frame, in degrees (%(default)s)")
    sub.add_argument("--pixels", type=_pixels, default="128", help="N, or NXxNY (%(default)s)")
    sub.add_argument("--channels", type=_names, default="frequency_shift", help="names with commas (%(default)s)")
    sub.add_argument(
        "--heights", type=_heights, metavar="FROM:TO:N", help=f"stack of constant heights, in pm (default: {heights})"
    )
    sub.add_argument("--z-mode", help="constant_current or constant_frequency_shift (default: constant_height)")
    sub.add_argument("--setpoint", type=float, help="of the z-controller, in A or Hz (default: its present one)")
    sub.add_argument("--direction", default="forward", help="forward, backward or both (%(default)s)")
    sub.add_argument("--line-time", type=float, default=1.0, help="seconds per line (%(default)s)")
    sub.add_argument("--overwrite", action="store_true", help="write over existing files")


def _request(options: argparse.Namespace) -> "ScanRequest":
    """Make the scan that is asked for, and see that its results have a place to go."""
    from twinscope.requests import CONSTANT_HEIGHT, ScanFrame, ScanRequest

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
        z_mode=options.z_mode or CONSTANT_HEIGHT,
        setpoint=options.setpoint,
    )


def _try(scope: "Microscope", request: "ScanRequest", options: argparse.Namespace) -> int:
    with scope.control(purpose="twinscope scan --dry-run", wait=options.wait):
        scope.check("acquire", request=request, on_lease_loss=options.on_lease_loss)
    lines = request.trace_count
    print(f"it would be done: {lines} lines in {lines * request.line_time:.5g} s, and the ways between them")
    return 0


def _scan(scope: "Microscope", request: "ScanRequest", options: argparse.Namespace) -> int:
    with scope.control(purpose="twinscope scan", wait=options.wait):
        acquisition = scope.acquire(request, on_lease_loss=options.on_lease_loss)
        try:
            follow(acquisition)
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


def _write(result: "Measurement", options: argparse.Namespace) -> None:
    if options.output is not None:
        if options.overwrite:
            options.output.unlink(missing_ok=True)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        print(f"data     {result.save(options.output)}")
    if options.png is not None:
        from twinscope.plotting import save_picture

        print(f"picture  {save_picture(result, options.png)}")


def _center(text: str) -> tuple[float, float]:
    x, y = numbers(text, ",", (2,), "0.5,-0.2")
    return x * 1e-9, y * 1e-9


def _pixels(text: str) -> tuple[int, int]:
    nx, *ny = numbers(text, "x", (1, 2), "128 or 128x96")
    if not all(n.is_integer() for n in (nx, *ny)):
        raise argparse.ArgumentTypeError(f"{text!r} was given, expected whole numbers")
    return int(nx), int((ny or [nx])[0])


def _heights(text: str) -> list[float]:
    start, stop, count = numbers(text, ":", (3,), "450:360:10")
    if not (count.is_integer() and count >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} was given, expected a whole number of heights")
    step = (stop - start) / max(int(count) - 1, 1)
    return [(start + i * step) * 1e-12 for i in range(int(count))]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]
