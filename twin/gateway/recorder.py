"""The Tip Move Recorder: what the signals were while the tip was moved."""

from collections import deque

import numpy as np

from twinscope.gateway.operator import Operator
from twinscope.gateway.signal_list import SignalList
from twinscope.state import InstrumentState

_SAMPLES = 10_000


class MoveRecorder:
    """A buffer of states; the oldest are forgotten. Any thread may use it.

    Parameters
    ----------
    operator
        Who looks at the instrument.
    """

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._states: deque[InstrumentState] = deque(maxlen=_SAMPLES)

    @property
    def size(self) -> int:
        """How many samples it keeps."""
        return self._states.maxlen or 0

    def resize(self, size: int) -> None:
        """Begin anew with a buffer of this size."""
        self._states = deque(maxlen=size)

    def clear(self) -> None:
        """Forget everything."""
        self._states.clear()

    def note(self) -> None:
        """Take a sample, unless the instrument does not know its place yet."""
        state = self._operator.state()
        if state.position is not None:
            self._states.append(state)

    def data(self, signals: SignalList) -> tuple[list[int], np.ndarray]:
        """Return the indexes of all signals that can be read, and their values (signals, samples)."""
        indexes = [signals.index_of(signal.name) for signal in signals.live()]
        states = list(self._states)
        values = [[signals.value(index, state) for state in states] for index in indexes]
        return indexes, np.array(values, dtype=float).reshape(len(indexes), len(states))
