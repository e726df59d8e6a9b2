"""What the Nanonis gateway is measured against: a bare server that answers with bytes of the same sizes.

``python _nanonis_peer.py PIXELS`` prints "at PORT" and serves one client until it is stopped.
"""

import contextlib
import socket
import sys

import numpy as np
from _peers import HOST, received_into

from twinscope.nanonis_protocol import COMMANDS, HEADER_SIZE, decode_request_header, encode_response


def answers(pixels: int) -> dict[str, bytes]:
    """Return the whole responses, made beforehand."""
    image = np.zeros((pixels, pixels), np.float32)
    results = {
        "Bias.Get": {"bias_value": 0.1},
        "Scan.FrameDataGrab": {"channel_name": "OC M1 Freq. Shift (Hz)", "scan_data": image, "scan_direction": 1},
    }
    return {name: encode_response(name, COMMANDS[name].encode_results(values)) for name, values in results.items()}


def main() -> None:
    """Answer each request with the bytes that are ready for it."""
    ready = answers(int(sys.argv[1]))
    with socket.create_server((HOST, 0)) as listener:
        while True:
            print(f"at {listener.getsockname()[1]}", flush=True)
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                header = bytearray(HEADER_SIZE)
                while received_into(connection, memoryview(header)):
                    request = decode_request_header(bytes(header))
                    received_into(connection, memoryview(bytearray(request.size)))
                    connection.sendall(ready[request.name])


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
