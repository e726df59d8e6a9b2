"""Numbers as people write them: a float32 stands for the shortest decimal that gives it."""

import numpy as np


def shortest(value: float) -> float:
    """Return the shortest decimal that becomes the same float32 as `value`."""
    return float(str(np.float32(value)))
