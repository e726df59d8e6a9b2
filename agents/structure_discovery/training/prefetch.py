"""Data are made ready while the device computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

_AHEAD = 3


def prefetched(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Yield ``make(item)`` in order, a few of them ahead, in a thread beside."""
    waiting = iter(items)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as pool:
        ready: deque[Future[Made]] = deque(pool.submit(make, item) for item in islice(waiting, _AHEAD))
        try:
            while ready:
                made = ready.popleft().result()
                ready.extend(pool.submit(make, item) for item in islice(waiting, 1))
                yield made
        finally:
            for future in ready:
                future.cancel()
