"""What the shipped network sees on experimental images of ice: a picture to look at, there is no truth to compare with.

The images were published by SINGROUP (StyleTransAugment): CO tips over ice on Au(111), 8 bits, each slice scaled by
itself.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from scipy.spatial import cKDTree

from twinscope.agents.structure_discovery import Predictor, Structure
from twinscope.agents.structure_discovery.pictures import stack_from_pictures

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "real" / "afm_ice_experimental"
NAMES = ("Ying_Jiang_2_1", "Ying_Jiang_5", "Ying_Jiang_7")
PITCH = 0.125  # Å, as the source says.
PIXELS = 128
COLOURS = {1: "white", 6: "grey", 7: "blue", 8: "red", 9: "lime"}


def main() -> None:
    """Draw stack by stack: nearest slice, predicted spheres and their uncertainty, atoms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, nargs="?", default=Path("ice.png"))
    parser.add_argument("--weights", type=Path, help="of another network than the one that comes with the package")
    parser.add_argument(
        "--predictions-only", action="store_true", help="leave out the measured images, which are their authors'"
    )
    options = parser.parse_args()
    mpl.use("agg")
    predictor = Predictor.shipped() if options.weights is None else Predictor.from_file(options.weights)
    columns = 2 if options.predictions_only else 4
    figure, axes = plt.subplots(
        len(NAMES), columns, figsize=(2.75 * columns, 2.7 * len(NAMES)), layout="constrained", squeeze=False
    )
    for row, name in zip(axes, NAMES, strict=True):
        slices = middles(name)
        prediction = predictor.predict(stack_from_pictures(slices, PITCH))
        measured = () if options.predictions_only else ((slices[0], f"{name}: highest"), (slices[-1], "lowest slice"))
        spheres = prediction.maps["vdw_spheres"]
        predicted = ((spheres.values, f"{name}: spheres, atoms"), (spheres.sigma, "sigma of the spheres"))
        extent = (prediction.x[0], prediction.x[-1], prediction.y[0], prediction.y[-1])
        for place, (image, title) in zip(row, (*measured, *predicted), strict=True):
            place.imshow(image, origin="lower", extent=extent, cmap="gray" if place in row[:-2] else "viridis")
            place.set_title(title, fontsize=9)
            place.set(xticks=[], yticks=[])
        found = prediction.structure
        colours = [COLOURS.get(int(number), "magenta") for number in found.numbers]
        for place in row[-3:-1] if len(measured) else row[:1]:
            place.scatter(*found.positions[:, :2].T, c=colours, s=18, edgecolors="black", linewidths=0.5)
        print(f"{name}: {', '.join(found.symbols)}; {neighbours(found)}")
    figure.savefig(options.output, dpi=80)
    print(options.output)


def middles(name: str) -> list[np.ndarray]:
    """Middle of every slice, 16 Å, the first line at the bottom; at most the ten nearest."""
    files = [path for path in DATA.glob(f"{name}_*.png") if path.stem.rpartition("_")[0] == name]
    files.sort(key=lambda path: int(path.stem.rpartition("_")[2]))
    images = [np.asarray(Image.open(path).convert("L"), dtype=float) for path in files[-10:]]
    first_row, first_column = ((size - PIXELS) // 2 for size in images[0].shape)
    inner = (slice(first_row, first_row + PIXELS), slice(first_column, first_column + PIXELS))
    return [image[inner][::-1] for image in images]


def neighbours(structure: Structure) -> str:
    """Median lateral distance from an oxygen atom to the nearest other."""
    oxygen = structure.positions[structure.numbers == 8, :2]
    if len(oxygen) < 2:
        return "fewer than two O atoms"
    nearest = cKDTree(oxygen).query(oxygen, k=2)[0][:, 1]
    return f"nearest O-O {np.median(nearest):.2f} Å (median of {len(oxygen)})"


if __name__ == "__main__":
    main()
