"""Pictures without a unit become stacks, and that is said."""

import numpy as np
import pytest

from twinscope.agents.structure_discovery.pictures import stack_from_pictures
from twinscope.errors import InvalidRequestError

PICTURES = [np.random.default_rng(seed).integers(0, 255, (20, 24)).astype(np.uint8) for seed in range(3)]


def test_scale_and_offset_of_a_picture_do_not_matter() -> None:
    stack = stack_from_pictures(PICTURES, 0.125)
    other = stack_from_pictures([0.3 * picture + 7 for picture in PICTURES], 0.125)
    np.testing.assert_allclose(stack.frequency_shift, other.frequency_shift, rtol=1e-4, atol=1e-6)
    assert stack.shape == (3, 20, 24)
    np.testing.assert_allclose(stack.z, [0.2, 0.1, 0.0], atol=1e-12)
    assert stack.x[-1] == 23 * 0.125
    # Bright is a high frequency shift, and contrast rises towards the sample.
    assert np.argmax(stack.frequency_shift[0]) == np.argmax(PICTURES[0])
    spreads = stack.frequency_shift.std((1, 2))
    assert (np.diff(spreads) > 0).all()
    assert "scaled separately" in stack.notes[0]


@pytest.mark.parametrize(
    ("pictures", "pitch", "message"),
    [
        ([], 0.1, "there are 0 pictures: expected 1 to 10"),
        (PICTURES * 4, 0.1, "there are 12 pictures"),
        ([PICTURES[0], PICTURES[1][:18]], 0.1, r"shapes \[\(18, 24\), \(20, 24\)\]"),
        ([PICTURES[0], np.ones((20, 24))], 0.1, r"the pictures \[1\] have no contrast"),
        (PICTURES, -1.0, "pitch is -1.0 Å"),
    ],
)
def test_what_is_no_stack_is_refused(pictures: list[np.ndarray], pitch: float, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        stack_from_pictures(pictures, pitch)
