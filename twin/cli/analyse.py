"""The command ``twinscope analyse``: what an image is made of."""

import argparse
from dataclasses import replace
from pathlib import Path

from twinscope.cli.options import AddCommand

_RECIPES = ("robust", "rotation_invariant", "jany2020")


def analyse(options: argparse.Namespace) -> int:
    """Find what the windows of an image are mixed of, and its regions, and write a PDF and TIFFs."""
    from twinscope import _jax_setup

    _jax_setup.keep_compiled_code()
    from twinscope.agents.analyses.fft_nmf import analyse as find_components
    from twinscope.agents.analyses.fft_report import write_fft_report
    from twinscope.agents.analyses.pictures import read_picture
    from twinscope.agents.analyses.recipes import RECIPES, ROBUST
    from twinscope.agents.analyses.regions import find_regions

    given = {"window": options.window, "step": options.step, "components": options.components}
    changes = {name: value for name, value in given.items() if value is not None}
    if "window" in changes and "step" not in changes:
        changes["step"] = changes["window"] // 2
    recipe = replace(RECIPES[options.recipe], **changes)
    image = read_picture(options.image)
    found = find_components(image, recipe)
    print(f"factors    {recipe.components or len(found.loadings)}")
    regions = None
    if options.regions or options.phases is not None:
        finer = replace(ROBUST, window=recipe.window, step=max(recipe.window // 4, 1))
        regions = find_regions(image, finer, options.phases)
        print(f"regions    {regions.grain_count}")
    for path in write_fft_report(options.output, image, found, regions):
        print(f"written    {path}")
    return 0


def add_commands(add: AddCommand) -> None:
    """Add the commands of this module."""
    sub = add("analyse", analyse)
    sub.add_argument("image", type=Path, help="TIFF, PNG or another picture, or .npy")
    sub.add_argument("output", type=Path, help="folder for the report; files in it are replaced")
    sub.add_argument("--recipe", choices=_RECIPES, default=_RECIPES[0], help="how windows are looked at (%(default)s)")
    sub.add_argument("--window", type=int, help="side of a window, in pixels (128)")
    sub.add_argument("--step", type=int, help="from window to window, in pixels (half a window)")
    sub.add_argument("--components", type=int, help="number of factors (from the explained variance)")
    sub.add_argument("--regions", action="store_true", help="find regions that look alike inside, too")
    sub.add_argument("--phases", type=int, metavar="N", help="group these regions by their lattice, however turned")
