"""What windows have shown, as the files of the published program: a PDF, and loadings and factors as TIFF."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from twinscope._optional import import_optional
from twinscope.agents.analyses.fft_nmf import Components
from twinscope.agents.analyses.pictures import write_tiff
from twinscope.agents.analyses.regions import Regions
from twinscope.errors import StoreError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 4
_PANEL = 2.6


def write_fft_report(folder: Path, image: np.ndarray, found: Components, regions: Regions | None = None) -> list[Path]:
    """Write everything that was found; return the paths.

    Parameters
    ----------
    folder
        Made if it is not there; files in it with the same names are replaced.
    image
        That was analysed.
    found
        In it.
    regions
        Of it, if they were looked for: as a TIFF too.

    Raises
    ------
    StoreError
        When a file cannot be written.
    MissingPackageError
        When matplotlib or tifffile is not there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        import_optional("matplotlib", "agents", "a report")
        from matplotlib.backends.backend_pdf import PdfPages

        report = folder / "report.pdf"
        with PdfPages(
            report, metadata={"Title": "Windows, Fourier transforms and factors", "CreationDate": None}
        ) as pages:
            for page in _pages(image, found, regions):
                pages.savefig(page)
    except OSError as exc:
        raise StoreError(f"the report cannot be written to {folder}: {exc}") from exc
    pictures = found.factors.pictures
    # Spectra over rings become a picture of one line each.
    spectra = pictures if pictures.ndim == found.loadings.ndim else pictures[:, None, :]
    written = [report, write_tiff(folder / "loadings.tif", found.loadings), write_tiff(folder / "factors.tif", spectra)]
    if regions is not None:
        maps = [regions.grains, *([] if regions.phases is None else [regions.phases]), regions.boundary]
        written.append(write_tiff(folder / "regions.tif", maps))
    return written


def _pages(image: np.ndarray, found: Components, regions: Regions | None) -> "list[Figure]":
    recipe = found.factors.recipe
    title = f"recipe {recipe.name}: windows of {recipe.window} pixels every {recipe.step}, {recipe.components} factors"
    first = _panels([("image", image), ("novelty", found.novelty), ("strongest factor", found.labels)], title)
    pages = [first]
    if len(found.explained):
        figure, ax = _figure(1, 1)
        ax[0, 0].semilogy(np.arange(1, len(found.explained) + 1), found.explained, "o-")
        ax[0, 0].axvline(len(found.loadings), color="gray", ls=":")
        ax[0, 0].set(xlabel="singular vector", ylabel="part of the variance", title="Explained variance")
        pages.append(figure)
    pages.append(_panels([(f"loading {k}", one) for k, one in enumerate(found.loadings, start=1)], "Loadings"))
    pages.append(_panels([(f"factor {k}", one) for k, one in enumerate(found.factors.pictures, start=1)], "Factors"))
    if regions is not None:
        shown = [(f"{regions.grain_count} regions", regions.grains), ("change of the spectrum", regions.boundary)]
        if regions.phases is not None:
            shown.append((f"{int(regions.phases.max()) + 1} phases", regions.phases))
        pages.append(_panels(shown, "Regions"))
    return pages


def _panels(pictures: list[tuple[str, np.ndarray]], title: str) -> "Figure":
    columns = min(len(pictures), _COLUMNS)
    figure, axes = _figure(-(-len(pictures) // columns), columns)
    figure.suptitle(title)
    for ax in axes.flat[len(pictures) :]:
        ax.axis("off")
    for ax, (name, picture) in zip(axes.flat, pictures, strict=False):
        ax.set_title(name, fontsize=9)
        if picture.ndim == 1:
            ax.plot(picture)
            ax.set_xlabel("cycles per window", fontsize=8)
        else:
            ax.imshow(np.where(np.isfinite(picture), picture, np.nan))
            ax.axis("off")
    return figure


def _figure(rows: int, columns: int) -> "tuple[Figure, np.ndarray]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(columns * _PANEL, 6), max(rows * _PANEL, 4) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)
