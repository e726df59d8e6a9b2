"""One microscope for several devices: calls in threads, control that they share, one thing at a time."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import ParamSpec, TypeVar

from ophyd_async.core import NotConnectedError

from twinscope.errors import TwinscopeError
from twinscope.microscope import Microscope, connect
from twinscope.state import InstrumentState, Position

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# How long a job may take to hear that it is to stop before it is told again, in s.
_STOP_INTERVAL = 0.1


class SpmLink:
    """What the devices of one microscope share. Make one, and all devices from it.

    The instrument is held from the first ``stage()`` of a device to the last ``unstage()``, and for as long as it takes
    when something is moved or set outside of these. While one device moves, sets or measures, others wait for it.

    Parameters
    ----------
    microscope
        A microscope that is not under control yet, or the address of a server as :func:`twinscope.connect` takes it.
    purpose
        What others are told who want the instrument meanwhile.
    wait
        Seconds to wait for someone else to let go of the instrument.
    root_map
        Where the readers of documents find the folders of the server: its folder to theirs. What is not in it is
        named as the server names it.

    Attributes
    ----------
    microscope, capabilities, root_map
        As given, and what the instrument can do.
    targets
        What has been set since control was taken, by name: the axes x, y and z, signals, "feedback".
    changing
        Name of what is being set at the moment.
    acquiring
        Whether something is being measured, a pause included.

    Raises
    ------
    TwinscopeError
        As :func:`twinscope.connect` does.
    """

    def __init__(
        self,
        microscope: Microscope | str = "localhost",
        *,
        purpose: str = "bluesky",
        wait: float = 0.0,
        root_map: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.microscope = connect(microscope) if isinstance(microscope, str) else microscope
        self.capabilities = self.microscope.capabilities()
        self.root_map = dict(root_map)
        self.targets: dict[str, float | str] = {}
        self.changing: str | None = None
        self.acquiring = False
        self._purpose = purpose
        self._wait = wait
        self._control = contextlib.ExitStack()
        self._holders = 0
        self._taking = asyncio.Lock()
        self._turn = asyncio.Lock()
        self._asked: asyncio.Task[InstrumentState] | None = None
        self._is_ready = False

    def close(self) -> None:
        """Give back control, if held, and close the microscope."""
        self._control.close()
        self.microscope.close()

    # ------------------------------------------------------------------ looking

    async def connect(self, timeout: float) -> None:
        """Wait until the instrument has warmed up.

        Raises
        ------
        NotConnectedError
            When it has not after `timeout` seconds, or there is no answer.
        """
        if self._is_ready:
            return
        name = self.capabilities.instrument
        try:
            self._is_ready = await self.call(self.microscope.wait_ready, timeout)
        except TwinscopeError as exc:
            raise NotConnectedError(f"{name}: {exc}") from exc
        if not self._is_ready:
            raise NotConnectedError(f"{name} has not warmed up within {timeout} s: try again, or look at its state")

    async def state(self) -> InstrumentState:
        """Tell what the instrument is doing; those who ask at the same moment get the same snapshot."""
        if self._asked is None:
            self._asked = asyncio.create_task(self._ask_state())
        # Whoever gives up must not take the answer away from the others.
        return await asyncio.shield(self._asked)

    async def place(self) -> Position:
        """Tell where the stage has been told to be: x and y; z is where the tip is."""
        position = position_in(await self.state())
        return Position(float(self.targets.get("x", position.x)), float(self.targets.get("y", position.y)), position.z)

    async def _ask_state(self) -> InstrumentState:
        # Everyone who is asked to read in this turn of the loop comes in before the question is sent.
        await asyncio.sleep(0)
        self._asked = None
        return await self.call(self.microscope.state)

    # ------------------------------------------------------------------ control

    async def take(self) -> None:
        """Take part in the control of the instrument; each call needs one of :meth:`give_back`.

        Raises
        ------
        LeaseError
            When someone else holds it.
        """
        async with self._taking:
            if self._holders == 0:
                lease = self.microscope.control(self._purpose, wait=self._wait)
                try:
                    await self.call(self._control.enter_context, lease)
                except asyncio.CancelledError:
                    await self.call(self._control.close)
                    raise
            self._holders += 1

    async def give_back(self) -> None:
        """Take part no longer; the last one gives the instrument back."""
        async with self._taking:
            self._holders -= 1
            if self._holders == 0:
                # From now on others may move the tip.
                self.targets.clear()
                await self.call(self._control.close)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Have the instrument to oneself, after all that came before."""
        async with self._turn:
            await self.take()
            try:
                yield
            finally:
                await self.give_back()

    # ------------------------------------------------------------------ doing

    async def change(self, name: str, value: float | str, action: Callable[[], object]) -> None:
        """Set something to a value, by an action that takes its time; who is cancelled meanwhile stops the instrument.

        After a pause, a RunEngine repeats what its plan has done since the last checkpoint. What the frame in progress
        was begun with is set already then, and it is not disturbed.
        """
        if self.acquiring and self.targets.get(name) == value:
            return
        async with self.turn():
            self.targets[name] = value
            self.changing = name
            try:
                await self.carry_out(action)
            except BaseException:
                del self.targets[name]
                raise
            finally:
                self.changing = None

    async def carry_out(self, action: Callable[[], object]) -> None:
        """Let the instrument do something, in one's turn; who is cancelled meanwhile stops it."""
        doing = asyncio.create_task(asyncio.to_thread(action))
        try:
            await asyncio.shield(doing)
        except asyncio.CancelledError:
            # The order may be on its way yet.
            while not doing.done():
                try:
                    await self.call(self.microscope.stop)
                except TwinscopeError as exc:
                    # It is not ours any more, or nobody answers: whatever becomes of it, it is waited for.
                    log.error("the instrument cannot be stopped from here: %s", exc)
                    await asyncio.wait([doing])
                await asyncio.wait([doing], timeout=_STOP_INTERVAL)
            log.info("stopped: %s", doing.exception())
            raise

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what blocks in a thread; who is cancelled meanwhile waits for its end, as the server does not stop."""
        calling = asyncio.create_task(asyncio.to_thread(function, *args, **kwargs))
        try:
            return await asyncio.shield(calling)
        except asyncio.CancelledError:
            await asyncio.wait([calling])
            raise


def position_in(state: InstrumentState) -> Position:
    """Return where the tip is.

    Raises
    ------
    TwinscopeError
        When the instrument does not know.
    """
    if state.position is None:
        raise TwinscopeError(f"the instrument is {state.status}: it does not know yet where its tip is")
    return state.position
