import numpy as np
import pytest

from tests.agents._thresholding import Thresholding
from twinscope.agents.structure_discovery.agent.planning import best_candidate, doubt
from twinscope.agents.structure_discovery.agent.recorder import Recorder
from twinscope.agents.structure_discovery.stack import StackGrid
from twinscope.errors import InvalidRequestError
from twinscope.kernels import Cantilever

GRID = StackGrid(pixels=32, pitch=0.5, slices=6, spacing=0.1)


@pytest.fixture
def recorder() -> Recorder:
    """A frame in which nothing was measured yet."""
    return Recorder(GRID, 10.0, -20.0, 3.0, Cantilever(), "CO")


def measure(recorder: Recorder, layer: int, first: int = 0, end: int = 32) -> None:
    """A dark thing in the lines 12 to 20 of a frame over a surface with -0.5 Hz."""
    for row in range(first, end):
        line = np.full(32, -0.5)
        if 12 <= row < 20:
            line[10:22] -= 2.0 + 0.1 * layer
        recorder.put(layer, row, line)


def test_rows_of_the_frame_are_where_they_belong_on_the_sample(recorder: Recorder) -> None:
    whole, lower = recorder.place((0, 32)), recorder.place((0, 8))
    assert (whole.x, whole.y, whole.width, whole.height) == (10.0, -20.0, 16.0, 16.0)
    assert (lower.y, lower.height, lower.pixels) == (-26.0, 4.0, (32, 8))
    with pytest.raises(InvalidRequestError, match="rows"):
        recorder.place((4, 40))


def test_the_surface_beside_the_molecule_is_taken_off_and_what_is_missing_stays_so(recorder: Recorder) -> None:
    measure(recorder, 2, 4, 28)
    stack = recorder.stack()
    assert stack.frequency_shift[2, 5] == pytest.approx(0.0)
    assert stack.frequency_shift[2, 14, 15] == pytest.approx(-2.2)
    assert stack.measured.all(axis=-1).sum() == 24
    assert np.allclose(np.diff(stack.z), -0.1)
    assert stack.z[-1] == pytest.approx(3.0)


@pytest.mark.parametrize(("slices", "layer", "lowest"), [(1, 1, 2.9), (-2, 4, 3.2)])
def test_slices_that_are_moved_keep_their_heights(recorder: Recorder, slices: int, layer: int, lowest: float) -> None:
    measure(recorder, 2)
    before = recorder.heights[2]
    recorder.shift(slices)
    assert np.flatnonzero(recorder.measured.any(axis=1)).tolist() == [layer]
    assert recorder.heights[layer] == pytest.approx(before)
    assert recorder.lowest == pytest.approx(lowest)


def test_the_band_of_lines_with_the_molecule_is_worth_more_per_second_than_a_whole_slice(recorder: Recorder) -> None:
    measure(recorder, 2)
    predictor = Thresholding()
    prediction = predictor.predict(recorder.stack())
    chosen = best_candidate(recorder, prediction, predictor, range(6), 2.0)
    assert chosen is not None
    first, end = chosen.rows
    assert 0 < first <= 12
    assert 20 <= end < 32
    assert chosen.seconds == 2.0 * (end - first)
    measure(recorder, chosen.layer, first, end)
    assert doubt(predictor.predict(recorder.stack())) == pytest.approx(doubt(prediction) - chosen.gain, rel=0.05)


def test_only_allowed_slices_are_chosen_and_none_when_all_are_there(recorder: Recorder) -> None:
    measure(recorder, 0)
    predictor = Thresholding()
    prediction = predictor.predict(recorder.stack())
    chosen = best_candidate(recorder, prediction, predictor, [0, 3], 1.0)
    assert chosen is not None
    assert chosen.layer == 3
    measure(recorder, 3)
    assert best_candidate(recorder, prediction, predictor, [0, 3], 1.0) is None
