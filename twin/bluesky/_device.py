"""What the devices of a microscope have in common: their link, and control while they are staged."""

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
    """

    def __init__(self, link: SpmLink, name: str = "") -> None:
        self.link = link
        self.is_mock = False
        self._is_held = False
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
        if not (self.is_mock or self._is_held):
            await self.link.take()
            self._is_held = True
        await super().stage()

    @AsyncStatus.wrap
    async def unstage(self) -> None:
        """Give control back, or one's part in it."""
        try:
            await super().unstage()
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        if self._is_held:
            self._is_held = False
            await self.link.give_back()
