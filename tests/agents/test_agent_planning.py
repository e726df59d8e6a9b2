import numpy as np
import pytest

from tests.agents._thresholding import Thresholding
from twinscope.agents.structure_discovery.agent.completing import completed
from twinscope.agents.structure_discovery.agent.planning import best_candidate, doubt, doubtful_band
from twinscope.agents.structure_discovery.agent.recorder import Recorder
from twinscope.agents.structure_discovery.prediction import DescriptorMap, Prediction
from twinscope.agents.structure_discovery.stack import StackGrid
from twinscope.agents.structure_discovery.structure import Structure
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


def test_lines_that_are_certain_enough_are_left_out_of_the_band() -> None:
    sigma = np.full((64, 32), 0.05)
    sigma[28:36] = 0.2
    prediction = seen(sigma)
    whole, doubtful = doubtful_band(prediction, 0.0), doubtful_band(prediction, 0.1)
    assert whole == (0, 64)
    # Two lines more on either side, which are 2 Å here, then to multiples of eight.
    assert doubtful == (24, 40)
    # Where everything is certain enough, the rest of the doubt tells.
    assert doubtful_band(prediction, 1.0) == whole


def test_a_band_is_not_narrower_than_what_networks_have_seen_and_all_lines_when_they_do_not_tell() -> None:
    sigma = np.full((64, 32), 0.05)
    sigma[20] = 0.5
    first, end = doubtful_band(seen(sigma), 0.1)
    assert first <= 12
    assert 28 <= end <= 32
    assert doubtful_band(seen(np.full((64, 32), np.nan)), 0.1) == (0, 64)


def test_without_bands_only_whole_slices_are_chosen(recorder: Recorder) -> None:
    measure(recorder, 2)
    predictor = Thresholding()
    chosen = best_candidate(recorder, predictor.predict(recorder.stack()), predictor, range(6), 2.0, None)
    assert chosen is not None
    assert chosen.rows == (0, 32)


def test_a_line_that_was_tried_in_vain_is_given_up(recorder: Recorder) -> None:
    measure(recorder, 0, 0, 5)
    measure(recorder, 0, 6, 32)
    predictor = Thresholding()
    prediction = predictor.predict(recorder.stack())
    for tries in (1, 2):
        recorder.put(0, 5, np.full(32, np.nan))
        assert recorder.missing[0, 5] == (tries < 2)
    assert not recorder.measured[0, 5]
    assert best_candidate(recorder, prediction, predictor, [0], 1.0) is None
    recorder.shift(-1)
    assert not recorder.missing[1].any()
    assert recorder.missing[0].all()


def seen(sigma: np.ndarray) -> Prediction:
    """A molecule everywhere in the frame, as certain as said."""
    y, x = (np.arange(count, dtype=float) for count in sigma.shape)
    maps = {"height_map": DescriptorMap("height_map", "Å", np.ones(sigma.shape), sigma)}
    atoms = Structure.known(np.zeros(0, int), np.zeros((0, 3)))
    return Prediction(x, y, maps, np.zeros((1, len(y), len(x))), np.zeros(1), x, y, atoms, {}, "")


def test_the_rest_of_a_band_is_filled_in_from_the_slices_around_it_and_what_was_measured_stays(
    recorder: Recorder,
) -> None:
    measure(recorder, 0)
    measure(recorder, 4)
    measure(recorder, 2, 16, 24)
    recorder.put(2, 16, np.full(32, 7.0))
    before = recorder.stack()
    after = completed(before)
    assert after.measured[[0, 2, 4]].all()
    assert not after.measured[[1, 3, 5]].any()
    assert np.array_equal(after.frequency_shift[before.measured], before.frequency_shift[before.measured])
    between = (before.frequency_shift[0, 12] + before.frequency_shift[4, 12]) / 2
    assert after.frequency_shift[2, 12] == pytest.approx(between, abs=1e-6)
    # What is filled in does not count as measured.
    assert recorder.missing[2].sum() == 24


def test_only_allowed_slices_are_chosen_and_none_when_all_are_there(recorder: Recorder) -> None:
    measure(recorder, 0)
    predictor = Thresholding()
    prediction = predictor.predict(recorder.stack())
    chosen = best_candidate(recorder, prediction, predictor, [0, 3], 1.0)
    assert chosen is not None
    assert chosen.layer == 3
    measure(recorder, 3)
    assert best_candidate(recorder, prediction, predictor, [0, 3], 1.0) is None
