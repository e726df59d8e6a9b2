"""What the devices of a microscope have in common: their link, and control while they are staged."""

import asyncio

from ophyd_async.core import DEFAULT_TIMEOUT, AsyncStatus, DeviceMock, StandardReadable

from twinscope.bluesky._link import SpmLink


class SpmDevice(StandardReadable):
    """A device of a microscope. While it is staged, the instrument is held.

    Parameters
    ----------
    link
        The way to the instrument.
    name
        Of the device, in documents.

    Attributes
    ----------
    is_mock
        Whether it was connected as a mock: the instrument is left alone then.
    is_held
        Whether it has a part in the control of the instrument.
    """

    def __init__(self, link: SpmLink, name: str = "") -> None:
        self.link = link
        self.is_mock = False
        self.is_held = False
        self._staging = asyncio.Lock()
        super().__init__(name)

    async def connect(
        self,
        mock: "bool | DeviceMock[SpmDevice]" = False,
        timeout: float = DEFAULT_TIMEOUT,
        force_reconnect: bool = False,
    ) -> None:
        """Wait until the instrument answers; as a mock, the instrument is left alone from now on."""
        self.is_mock = bool(mock)
        if not mock:
            await self.link.connect(timeout)
        await super().connect(mock, timeout, force_reconnect)

    @AsyncStatus.wrap
    async def stage(self) -> None:
        """Take control of the instrument, or a part in the control that another device has taken.

        Raises
        ------
        LeaseError
            When someone else holds it.
        """
        # A RunEngine that was halted does not wait for the end of unstage().
        async with self._staging:
            if not (self.is_mock or self.is_held):
                await self.link.take()
                self.is_held = True
            await super().stage()
            self._begin_work()

    @AsyncStatus.wrap
    async def unstage(self) -> None:
        """End what is in progress, and give control back, or one's part in it."""
        async with self._staging:
            try:
                await self._end_work()
                await super().unstage()
            finally:
                if self.is_held:
                    self.is_held = False
                    await self.link.give_back()

    def _begin_work(self) -> None:
        """Forget what was before."""

    async def _end_work(self) -> None:
        """End what is in progress."""
