"""A driver for a driver interface that has been forgotten."""

from twinscope_example import Dunes


class Antique(Dunes):
    """An STM over old dunes."""

    name = "antique"
    api_versions = (0, 0)
