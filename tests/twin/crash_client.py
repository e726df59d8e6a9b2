"""A client that works until it is killed, and writes down every line that it has seen: ``ADDRESS LOG SEED``."""

import os
import random
import sys
import time

import twinscope
from twinscope import ScanFrame
from twinscope.errors import ServerUnreachableError, TwinscopeError

CHANNELS = ("at_x", "at_y")


def main(address: str, log: str, seed: str) -> None:
    chance = random.Random(int(seed))
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with connected(address) as scope:
        while True:
            try:
                if scope.state().blocked is not None:
                    time.sleep(0.01)
                    continue
                with scope.control(purpose="to be killed", duration=0.6, wait=5):
                    for _ in range(chance.randrange(1, 6)):
                        work(scope, chance, file)
                # The operator may want to look at something.
                time.sleep(0.05)
            # The server, the driver or the disk has failed: this goes on when it can.
            except TwinscopeError as exc:
                os.write(file, f"# {type(exc).__name__}: {exc}\n".encode())
                time.sleep(0.01)


def connected(address: str) -> twinscope.Microscope:
    """Connect, also when there is no server just now."""
    while True:
        try:
            return twinscope.connect(address)
        except ServerUnreachableError:
            time.sleep(0.05)


def work(scope: twinscope.Microscope, chance: random.Random, file: int) -> None:
    x, y = (chance.uniform(-1e-8, 1e-8) for _ in range(2))
    what = chance.random()
    if what < 0.1:
        scope.set_signal("bias", chance.uniform(-1, 1))
    elif what < 0.2:
        scope.move_to(x=x, y=y)
    else:
        acquisition = scope.scan(
            frame=ScanFrame(size=(2e-9, 1e-9), center=(x, y), angle=chance.uniform(0, 90)),
            pixels=(64, chance.randrange(20, 150)),
            channels=CHANNELS,
            line_time=chance.choice((0.002, 0.01, 0.05)),
        )
        for line in acquisition.lines():
            # One write, so that what is in the file was seen, whenever this process is killed.
            os.write(file, f"{acquisition.id} {line.index}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
