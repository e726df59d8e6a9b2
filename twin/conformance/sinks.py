"""A sink that keeps what it is given, and notes what is wrong with it."""

import threading

import numpy as np

from twinscope.requests import AcquisitionRequest


class StrictSink:
    """Takes the traces of one acquisition.

    Attributes
    ----------
    traces
        What was written, (channels, samples) each.
    warnings
        Sentences for people.
    complaints
        What is wrong with how it was written.
    active
        Whether the driver may write: it is within start_... or poll.
    """

    def __init__(self, request: AcquisitionRequest) -> None:
        self.traces: list[np.ndarray] = []
        self.warnings: list[str] = []
        self.complaints: list[str] = []
        self.active = True
        self._thread = threading.current_thread()
        self._total = request.trace_count
        self._inner = (len(request.channels), request.trace_length)

    def write(self, first: int, traces: np.ndarray) -> None:
        """Take traces, and a copy of them: a driver may use its buffer again."""
        if threading.current_thread() is not self._thread:
            self.complaints.append("it wrote from another thread than the one that called poll()")
        if not self.active:
            self.complaints.append("it wrote when it had not been called: only start_...() and poll() may write")
        if first != len(self.traces):
            self.complaints.append(f"it wrote trace {first} after {len(self.traces)} traces: expected the next one")
        if np.ndim(traces) != 3 or np.shape(traces)[1:] != self._inner:
            self.complaints.append(
                f"it wrote an array of shape {np.shape(traces)}: expected (n, channels, samples), here (n,"
                f" {self._inner[0]}, {self._inner[1]})"
            )
            return
        self.traces.extend(np.array(traces, dtype=np.float64))
        if len(self.traces) > self._total:
            self.complaints.append(f"it wrote {len(self.traces)} traces: expected {self._total}")

    def warn(self, message: str) -> None:
        """Take a sentence."""
        if not isinstance(message, str) or not message:
            self.complaints.append(f"it warned with {message!r}: expected a sentence")
        self.warnings.append(message)

    def array(self) -> np.ndarray:
        """Return what was written, (traces, channels, samples).

        Raises
        ------
        AssertionError
            With all complaints.
        """
        assert not self.complaints, "; ".join(dict.fromkeys(self.complaints))
        return np.array(self.traces)
