"""Make ``.typing/twinscope``, a folder of links that looks like the installed package.

The folders of the repository have other names than the packages they hold. Python finds them through an import hook;
mypy and import-linter look at files only, and find them here.
"""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Make the links anew."""
    target = ROOT / ".typing" / "twinscope"
    shutil.rmtree(target.parent, ignore_errors=True)
    target.mkdir(parents=True)
    for file in (ROOT / "twin").iterdir():
        if file.name != "__pycache__":
            (target / file.name).symlink_to(file)
    for part in ("drivers", "agents", "kernels"):
        (target / part).symlink_to(ROOT / part)


if __name__ == "__main__":
    main()
