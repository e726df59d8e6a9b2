"""Windows, Fourier transforms and factors: what an image is made of."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import NMF
from sklearn.metrics import adjusted_rand_score

from twinscope import Microscope, ScanFrame
from twinscope.agents.analyses.fft_nmf import analyse, apply, component_number
from twinscope.agents.analyses.fft_report import write_fft_report
from twinscope.agents.analyses.following import follow
from twinscope.agents.analyses.nmf import factorise, project, singular_spectrum
from twinscope.agents.analyses.pictures import read_picture, write_tiff
from twinscope.agents.analyses.recipes import JANY2020, RECIPES, ROBUST, ROTATION_INVARIANT, Recipe
from twinscope.agents.analyses.regions import find_regions
from twinscope.agents.analyses.windows import window_spectra
from twinscope.cli import main
from twinscope.errors import InvalidRequestError, StoreError

SMALL = replace(ROBUST, window=32, step=8, components=3)


def waves(size: int, period: float, angle: float, phase: float = 0.0) -> np.ndarray:
    """A lattice of two crossed waves."""
    y, x = np.indices((size, size))
    cos, sin = np.cos(angle), np.sin(angle)
    along, across = (x * cos + y * sin) / period, (y * cos - x * sin) / period
    return np.cos(2 * np.pi * along + phase) + np.cos(2 * np.pi * across)


@pytest.fixture(scope="module")
def four() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image of four grains, two of each of two lattices: image, grains, phases."""
    random = np.random.default_rng(0)
    image = np.zeros((192, 192))
    grains = np.zeros((192, 192), int)
    for number, (period, angle) in enumerate([(6.0, 0.2), (9.0, 0.9), (9.0, 0.1), (6.0, 0.8)]):
        part = np.s_[96 * (number // 2) : 96 * (number // 2 + 1), 96 * (number % 2) : 96 * (number % 2 + 1)]
        image[part] = waves(192, period, angle)[part]
        grains[part] = number
    return image + 0.3 * random.normal(size=image.shape) + 5.0, grains, np.array([0, 1, 1, 0])[grains]


def matched(one: np.ndarray, other: np.ndarray) -> float:
    """The worst cosine of rows that belong together."""
    one, other = (rows.reshape(len(rows), -1) for rows in (one, other))
    cosines = one @ other.T / np.linalg.norm(one, axis=1)[:, None] / np.linalg.norm(other, axis=1)
    return float(cosines[linear_sum_assignment(-cosines)].min())


def at_windows(truth: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return truth[np.ix_(np.rint(y).astype(int), np.rint(x).astype(int))]


def test_the_published_recipe_gives_the_factors_of_the_published_program(four: tuple[np.ndarray, ...]) -> None:
    image = 20 * four[0]
    window, step, number = 32, 16, 5
    views = np.lib.stride_tricks.sliding_window_view(image, (window, window))[::step, ::step]
    taper = np.sqrt(np.outer(np.hanning(window), np.hanning(window)))
    spectra = np.log(np.fft.fftshift(abs(np.fft.fft2(views * taper)) ** 2, axes=(-2, -1)) + 10000)
    rows = spectra.reshape(-1, window**2)
    model = NMF(number, init="nndsvda", random_state=0)
    weights = model.fit_transform(rows)

    found = analyse(image, replace(JANY2020, window=window, step=step, components=number))
    assert matched(found.loadings, np.moveaxis(weights.reshape(*views.shape[:2], -1), -1, 0)) > 0.999
    assert matched(found.factors.pictures, model.components_.reshape(-1, window, window)) > 0.999
    squares = np.linalg.svd(rows, compute_uv=False) ** 2
    assert np.allclose(found.explained[:10], squares[:10] / squares.sum(), rtol=0.01)


def test_factors_explain_data_that_are_mixed_of_them() -> None:
    random = np.random.default_rng(1)
    weights, factors = random.random((60, 3)), random.random((3, 200)) ** 4
    data = weights @ factors
    found = factorise(data, 3, iterations=2000, tolerance=1e-6)
    assert np.linalg.norm(data - found.weights @ found.factors) < 0.01 * np.linalg.norm(data)
    assert matched(found.factors, factors) > 0.98
    assert np.allclose(project(data, factors), weights, atol=1e-3)
    # Of the shorter side, whichever that is.
    for matrix in (data, data.T):
        spectrum = singular_spectrum(matrix, number=3)
        assert np.allclose(spectrum.values, np.linalg.svd(matrix, compute_uv=False)[:3], rtol=1e-4)
        assert np.allclose(spectrum.vectors.T @ spectrum.vectors, np.eye(3), atol=1e-3)


@pytest.mark.parametrize("data", [-np.ones((4, 4)), np.full((4, 4), np.nan)])
def test_data_that_cannot_be_factorised_are_refused(data: np.ndarray) -> None:
    with pytest.raises(InvalidRequestError, match="lowest entry"):
        factorise(data, 2)


def test_the_number_of_components_is_where_the_gradient_of_the_curve_has_its_first_peak() -> None:
    curve = np.array([0.9, 0.05, 0.02, 0.018, 0.01, 0.005, 0.0045, 0.004])
    gradient = np.gradient(curve)
    assert gradient[3] > max(gradient[2], gradient[4])
    assert component_number(curve) == 4
    assert component_number(np.array([1.0])) == 1


def test_the_unit_of_the_image_does_not_matter(four: tuple[np.ndarray, ...]) -> None:
    one, other = (analyse(factor * four[0] + shift, SMALL) for factor, shift in ((1.0, 0.0), (1e-9, 3e-4)))
    assert np.allclose(one.loadings, other.loadings, atol=0.02 * np.nanmax(one.loadings))


def test_lattices_are_told_apart_however_they_are_turned(four: tuple[np.ndarray, ...]) -> None:
    image, _, phases = four
    found = analyse(image, replace(ROTATION_INVARIANT, window=32, step=8, components=2))
    assert found.factors.pictures.shape == (2, 16)
    assert adjusted_rand_score(at_windows(phases, found.x, found.y).ravel(), found.labels.ravel()) > 0.6


def test_what_the_factors_do_not_know_is_new(four: tuple[np.ndarray, ...]) -> None:
    image = four[0]
    known = analyse(image[:96], SMALL)
    again = apply(image[:96], known.factors)
    assert matched(again.loadings, known.loadings) > 0.99
    strange = image.copy()
    strange[100:160, 20:80] = 5 + waves(192, 4.0, 0.4)[100:160, 20:80]
    novelty = apply(strange, known.factors).novelty
    row, column = np.unravel_index(np.argmax(novelty), novelty.shape)
    assert 100 <= known.y[0] + 8 * row <= 160
    assert 20 <= known.x[column] <= 80


def test_windows_that_are_not_known_are_left_out(four: tuple[np.ndarray, ...]) -> None:
    image = four[0].copy()
    image[40:60, 100:130] = np.nan
    found = analyse(image, SMALL)
    unknown = np.isnan(found.loadings[0])
    assert 0 < unknown.sum() < unknown.size / 3
    assert np.array_equal(unknown, np.isnan(found.novelty))
    assert (found.labels[unknown] == -1).all()
    regions = find_regions(image, SMALL, phases=2)
    assert np.array_equal(regions.grains == -1, unknown)
    assert regions.phases is not None
    assert np.array_equal(regions.phases == -1, unknown)


@pytest.mark.parametrize("way", [analyse, find_regions])
@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((64, 20)), "20 pixels long and a window 32"),
        (np.full((64, 64), 0.1), r"constant, 0\.1"),
        (np.pad(np.ones((2, 2)), (0, 62)), "more than half of the image is constant"),
        (np.full((64, 64), np.nan), "has a NaN"),
        (np.zeros(64), "rows and columns"),
    ],
)
def test_images_that_cannot_be_analysed_are_refused(way, image: np.ndarray, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        way(image, SMALL)


def test_more_components_than_windows_are_refused(four: tuple[np.ndarray, ...]) -> None:
    with pytest.raises(InvalidRequestError, match="components is 30 and the image has 25 windows"):
        analyse(four[0][:64, :64], replace(SMALL, components=30))
    with pytest.raises(InvalidRequestError, match="phases is 99"):
        find_regions(four[0], SMALL, phases=99)
    with pytest.raises(InvalidRequestError, match="averages over directions"):
        find_regions(four[0], ROTATION_INVARIANT)


@pytest.mark.parametrize(
    "wrong", [{"window": 33}, {"window": 0}, {"step": 200}, {"spectrum": "guess"}, {"components": 0}, {"offset": -1.0}]
)
def test_recipes_that_make_no_sense_are_refused_by_name(wrong: dict) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(wrong))):
        Recipe(name="wrong", **wrong)
    assert set(RECIPES) == {"jany2020", "robust", "rotation_invariant"}


def test_the_whole_spectrum_is_that_of_numpy(four: tuple[np.ndarray, ...]) -> None:
    recipe = replace(JANY2020, window=8, step=8)
    spectra = window_spectra(four[0][:8, :8], recipe)
    whole = analyse(four[0][:16, :16], replace(recipe, components=1)).factors.pictures[0]
    assert np.allclose(whole[1:, 1:], whole[1:, 1:][::-1, ::-1])
    taper = np.sqrt(np.outer(np.hanning(8), np.hanning(8)))
    expected = np.log(abs(np.fft.fft2(four[0][:8, :8] * taper)) ** 2 + 1e4)
    assert spectra.features[0] @ spectra.counts == pytest.approx(expected.sum(), rel=1e-5)


def test_grains_and_phases_are_found(four: tuple[np.ndarray, ...]) -> None:
    image, grains, phases = four
    found = find_regions(image, SMALL, phases=2)
    assert found.grain_count == 4
    assert adjusted_rand_score(at_windows(grains, found.x, found.y).ravel(), found.grains.ravel()) > 0.8
    assert found.phases is not None
    assert adjusted_rand_score(at_windows(phases, found.x, found.y).ravel(), found.phases.ravel()) > 0.7
    assert find_regions(image, SMALL).phases is None


def test_a_running_scan_is_analysed_line_of_windows_by_line_of_windows(
    four: tuple[np.ndarray, ...], tmp_path: Path
) -> None:
    write_tiff(tmp_path / "image.tif", four[0][None])
    frame = {"file": str(tmp_path / "image.tif"), "scale": {"size": (192e-9, 192e-9), "unit": "m"}}
    with Microscope(driver="replay", directory=tmp_path / "data", **frame) as scope, scope.control():
        channel = scope.capabilities().channels[0].name
        scan = scope.scan(frame=ScanFrame(size=(192e-9, 192e-9)), pixels=(96, 96), channels=[channel], line_time=0.01)
        recipe = replace(SMALL, step=16)
        seen = list(follow(scan, channel, recipe))
        whole = scan.result()[channel].values
        assert [int(np.isfinite(one.novelty).all(axis=1).sum()) for one in seen] == [1, 2, 3, 4, 5]
        assert np.allclose(seen[-1].loadings, analyse(whole, recipe).loadings, rtol=1e-3, atol=1e-3)
        again = list(follow(scan, channel, factors=seen[-1].factors))
        assert len(again) == 5
        with pytest.raises(InvalidRequestError, match="'current'"):
            next(follow(scan, "current"))


def test_the_command_writes_what_the_published_program_does(
    four: tuple[np.ndarray, ...], tmp_path: Path, capsys
) -> None:
    np.save(tmp_path / "image.npy", four[0])
    size = ["--window", "32", "--step", "16", "--components", "3", "--phases", "2"]
    assert main(["analyse", str(tmp_path / "image.npy"), str(tmp_path / "found"), *size]) == 0
    assert "regions    4" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "found").iterdir()}
    assert names == {"report.pdf", "loadings.tif", "factors.tif", "regions.tif"}
    assert read_picture(tmp_path / "image.npy").shape == (192, 192)
    with pytest.raises(InvalidRequestError, match=r"loadings\.tif has the shape \(3, 11, 11\)"):
        read_picture(tmp_path / "found" / "loadings.tif")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(InvalidRequestError, match=r"bad\.png cannot be read"):
        read_picture(tmp_path / "bad.png")
    with pytest.raises(StoreError, match="cannot be written"):
        write_fft_report(tmp_path / "image.npy", four[0], analyse(four[0], SMALL))
