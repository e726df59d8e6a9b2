"""The Nanonis TCP protocol: every command as data, and messages to bytes and back. Neither instrument nor sockets.

Written from "Nanonis TCP Protocol", June 2024 (R13742). The gateway speaks it as the controller, the Nanonis driver as
the client. Where clients of today send other arguments than that document lists, both forms stand in the table.
"""

from twinscope.nanonis_protocol.commands import Command as Command
from twinscope.nanonis_protocol.commands import Field as Field
from twinscope.nanonis_protocol.kinds import KINDS as KINDS
from twinscope.nanonis_protocol.messages import HEADER_SIZE as HEADER_SIZE
from twinscope.nanonis_protocol.messages import LARGEST_REQUEST as LARGEST_REQUEST
from twinscope.nanonis_protocol.messages import LARGEST_RESPONSE as LARGEST_RESPONSE
from twinscope.nanonis_protocol.messages import ErrorDialect as ErrorDialect
from twinscope.nanonis_protocol.messages import RequestHeader as RequestHeader
from twinscope.nanonis_protocol.messages import ResponseHeader as ResponseHeader
from twinscope.nanonis_protocol.messages import decode_error_block as decode_error_block
from twinscope.nanonis_protocol.messages import decode_request_header as decode_request_header
from twinscope.nanonis_protocol.messages import decode_response_header as decode_response_header
from twinscope.nanonis_protocol.messages import encode_error_block as encode_error_block
from twinscope.nanonis_protocol.messages import encode_request as encode_request
from twinscope.nanonis_protocol.messages import encode_response as encode_response
from twinscope.nanonis_protocol.table import COMMANDS as COMMANDS
