"""What client and server agree on, whatever carries it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

VERSION = 2
"""Number of the protocol: it grows when older clients cannot understand it any more."""

CHUNK = 2**24
"""Most bytes of data in one reply: with smaller ones the requests cost more than the bytes, larger gain nothing."""

LONGEST_WAIT = 5.0
"""Longest time, in s, that one call may wait: a longer wait is several calls, so that no connection looks dead."""

DEFAULT_PORT = 9753
"""TCP port of a server that was not told another."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer of a verb: plain data, and bytes that travel beside it."""

    result: Any
    payload: bytes | memoryview = b""


class Transport(Protocol):
    """Carries verbs to a :class:`~twinscope.service.Service`. Any thread may use it."""

    def call(
        self,
        name: str,
        parameters: Mapping[str, Any] = MappingProxyType({}),
        *,
        lease: int | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Carry out a verb; an error of the service is raised here as it was raised there.

        Parameters
        ----------
        name, parameters
            The verb and what it takes.
        lease
            Number of the lease that the caller holds.
        dry_run
            Only check whether it could be done now.
        """
        ...

    def fetch(self, name: str, parameters: Sequence[Mapping[str, Any]], into: Sequence[memoryview]) -> Iterator[Reply]:
        """Carry out a verb that reads with each of several parameters, in their order.

        Several requests may be on their way at once. The payload of each answer is in the view that stands in its
        place when the answer is given; one that does not fit there is elsewhere.
        """
        ...

    def close(self) -> None:
        """Let go of the service."""
        ...


def fetch_in_turn(
    call: Callable[[str, Mapping[str, Any]], Reply],
    name: str,
    parameters: Sequence[Mapping[str, Any]],
    into: Sequence[memoryview],
) -> Iterator[Reply]:
    """Do what :meth:`Transport.fetch` does by one call after the other: within a process nothing is on its way."""
    for given, view in zip(parameters, into, strict=True):
        reply = call(name, given)
        payload = memoryview(reply.payload)
        if len(payload) <= len(view):
            view[: len(payload)] = payload
            payload = view[: len(payload)]
        yield Reply(reply.result, payload)
