"""The command line.

Exit codes: 0 done, 1 it failed, 2 the command or its values are wrong, 3 the server cannot be used, 130 interrupted.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from twinscope._version import __version__
from twinscope.cli import analyse, control, discover, files, keys, look, mcp, scan, serve, train
from twinscope.cli.options import FAILED, INTERRUPTED, UNREACHABLE, USAGE, Command
from twinscope.errors import ConfigurationError, InvalidRequestError, RemoteError, TwinscopeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments, argparse.Namespace(arguments=arguments))
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    command: Command = options.command
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


def _complain(exc: TwinscopeError, code: int) -> int:
    print(f"twinscope: {exc.message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="twinscope", description="A scanning-probe microscope to script remotely.")
    parser.add_argument("--version", action="version", version=f"twinscope {__version__}")
    parser.add_argument("--verbose", action="store_true", help="tell more on stderr")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command) -> argparse.ArgumentParser:
        text = command.__doc__ or ""
        sub = commands.add_parser(name, help=text[0].lower() + text[1:].rstrip("."), description=text)
        sub.set_defaults(command=command)
        return sub

    for part in (serve, look, control, scan, files, mcp, discover, train, analyse):
        part.add_commands(add)
    keys.add_commands(commands.add_parser("keys", help="say who may connect over a network", description=keys.__doc__))
    return parser
