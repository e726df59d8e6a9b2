"""Maps the folders of the repository to packages; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

PARTS = ("drivers", "agents", "kernels")

found = find_packages(include=[pattern for part in PARTS for pattern in (part, f"{part}.*")]) + find_packages("twin")
setup(
    packages=["twinscope", *(f"twinscope.{name}" for name in found)],
    package_dir={"twinscope": "twin", **{f"twinscope.{part}": part for part in PARTS}},
)
