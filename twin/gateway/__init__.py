"""The Nanonis gateway: an unmodified Nanonis script drives the instrument, under its leases and interlocks.

A front end beside the one of Pyro5. The wire is :mod:`twinscope.nanonis_protocol`; what each command does is in
:mod:`twinscope.gateway.modules`, one module for each of Nanonis.
"""

from twinscope.gateway.server import IDLE_TIME as IDLE_TIME
from twinscope.gateway.server import PORTS as PORTS
from twinscope.gateway.server import NanonisGateway as NanonisGateway
