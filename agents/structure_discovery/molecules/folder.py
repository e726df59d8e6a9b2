"""Molecules of one's own, from files."""

from collections.abc import Callable
from pathlib import Path

from twinscope._optional import import_optional
from twinscope.agents.structure_discovery.molecules.molecule import Molecule
from twinscope.agents.structure_discovery.molecules.recipe import Charges
from twinscope.errors import InvalidRequestError

SUFFIXES = (".mol", ".sdf", ".xyz")
"""Of files that are read, in small or capital letters."""

_SHOWN = 5


def from_folder(
    path: Path | str,
    *,
    charges: Charges = "gasteiger",
    on_error: Callable[[Path, str], None] | None = None,
) -> list[Molecule]:
    """Read all molecules of a folder: its files .mol, .sdf and .xyz, by name.

    Bonds of .xyz files are found from the distances. Their charges are a column "initial_charges" or "charge" of the
    extended format, or the fifth of plain files, as those of the data set of Alldritt et al., Sci. Adv. 6, eaay6913
    (2020). All others get charges of the model.

    Parameters
    ----------
    path
        The folder; folders within are not looked at.
    charges
        The model for files without charges, see :class:`.Recipe`.
    on_error
        Called with each file that cannot be used and the reason, and others are read on. Unless given, such files are
        an error.

    Raises
    ------
    InvalidRequestError
        When there is no such folder, no file in it, or files cannot be used: it names them, with the reasons.
    MissingPackageError
        Without rdkit, which the extra "train" installs.
    """
    import_optional("rdkit", "train", "reading molecules")
    from twinscope.agents.structure_discovery.molecules.readers import read

    folder = Path(path)
    if not folder.is_dir():
        raise InvalidRequestError(f"there is no folder {folder}")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise InvalidRequestError(f"there are no molecules in {folder}: expected files {', '.join(SUFFIXES)}")
    molecules: list[Molecule] = []
    bad: dict[Path, str] = {}
    for file in files:
        try:
            molecules += read(file, charges)
        except (InvalidRequestError, OSError, UnicodeDecodeError) as exc:
            bad[file] = str(exc)
    _report(bad, on_error)
    return molecules


def _report(bad: dict[Path, str], on_error: Callable[[Path, str], None] | None) -> None:
    if on_error is not None:
        for file, reason in bad.items():
            on_error(file, reason)
    elif bad:
        shown = "; ".join(f"{file}: {reason}" for file, reason in list(bad.items())[:_SHOWN])
        more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise InvalidRequestError(f"{len(bad)} files cannot be used: {shown}{more}. Remove them, or pass on_error")
