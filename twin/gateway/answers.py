"""From a request to its answer: decode, carry out, encode, and put what went wrong into the form of Nanonis."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from twinscope.errors import InvalidRequestError, TwinscopeError
from twinscope.gateway.call import Call, ClientGoneError
from twinscope.gateway.decimals import shortest
from twinscope.gateway.modules import HANDLERS, why_not
from twinscope.nanonis_protocol import COMMANDS, Command, ErrorDialect, encode_response

log = logging.getLogger(__name__)


def answer_to(name: str, body: bytes, call: Call, dialect: ErrorDialect = ErrorDialect.SHORT) -> bytes:
    """Carry out a command and return the whole response.

    Parameters
    ----------
    name, body
        As they came.
    call
        What the handler may use.
    dialect
        Of the error block.

    Raises
    ------
    ClientGoneError
        When nobody waits for the response any more.
    """
    command = COMMANDS.get(name)
    if command is None:
        return encode_response(name, b"", f"there is no command {name!r} in the Nanonis protocol", dialect=dialect)
    try:
        return encode_response(name, command.encode_results(_results(command, body, call)), dialect=dialect)
    except ClientGoneError:
        raise
    except TwinscopeError as exc:
        text = exc.message
    # A fault of ours must not end the conversation.
    except Exception as exc:
        log.exception("%s failed", name)
        text = f"internal error: {type(exc).__name__}: {exc}"
    log.info("%s was refused: %s", name, text)
    # Clients read the results first, and look for the error behind them.
    return encode_response(name, command.encode_results(command.empty_results()), text, dialect=dialect)


def _results(command: Command, body: bytes, call: Call) -> Mapping[str, Any]:
    handler = HANDLERS.get(command.name)
    if handler is None:
        raise InvalidRequestError(why_not(command.name))
    arguments = as_written(command, command.decode_arguments(body))
    call.controller.wait_for_start(call.check_client)
    return command.empty_results() | dict(handler(call, arguments) or {})


def as_written(command: Command, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with each float32 as the shortest decimal that it stands for.

    A script that writes 5e-9 means 5e-9, not the neighbouring float32: what it asks for is then the same as what our
    own client would ask for, and a limit that it was told can be set.
    """
    kinds = {field.name: field.kind for field in command.arguments}
    return {name: _decimal(value) if kinds[name].startswith("float32") else value for name, value in arguments.items()}


def _decimal(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        return np.array([shortest(number) for number in value])
    return shortest(value)
