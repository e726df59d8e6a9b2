"""Readers of files with molecules."""

from pathlib import Path

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from twinscope.agents.structure_discovery.molecules.geometry import partial_charges, to_molecule
from twinscope.agents.structure_discovery.molecules.molecule import Molecule
from twinscope.agents.structure_discovery.molecules.recipe import Charges
from twinscope.agents.structure_discovery.molecules.xyz import Atoms, read_xyz
from twinscope.agents.structure_discovery.structure import ELEMENTS
from twinscope.errors import InvalidRequestError

_MOST_TRIES = 10_000  # of distributing double bonds; what is well measured needs a few


def read(file: Path, charges: Charges) -> list[Molecule]:
    """Read the molecules of a file, by its suffix; `charges` is the model where it has none.

    Raises
    ------
    InvalidRequestError
        When they cannot be used. The message does not name the file.
    OSError, UnicodeDecodeError
        When it cannot be read.
    """
    with rdBase.BlockLogs():  # what was wrong is in the error
        match file.suffix.lower():
            case ".xyz":
                return [_from_atoms(read_xyz(file), charges)]
            case ".mol":
                mols = [Chem.MolFromMolBlock(file.read_text(encoding="utf-8"), removeHs=False)]
            case _:
                supplier = Chem.SDMolSupplier()
                supplier.SetData(file.read_text(encoding="utf-8"), removeHs=False)
                mols = list(supplier)
        return [_with_charges(mol, charges, number) for number, mol in enumerate(mols, 1)]


def _with_charges(mol: Chem.Mol | None, charges: Charges, number: int) -> Molecule:
    if mol is None or mol.GetNumAtoms() == 0:
        raise InvalidRequestError(f"its molecule {number} is not valid")
    strange = sorted({atom.GetSymbol() for atom in mol.GetAtoms()} - set(ELEMENTS))
    if strange:
        raise InvalidRequestError(f"its molecule {number} has {', '.join(strange)}: expected {', '.join(ELEMENTS)}")
    if any(atom.GetTotalNumHs() for atom in mol.GetAtoms()):
        raise InvalidRequestError(f"its molecule {number} lacks hydrogen atoms: they need positions, too")
    return to_molecule(mol, _modelled(mol, charges))


def _from_atoms(atoms: Atoms, charges: Charges) -> Molecule:
    """Find the bonds (Kim and Kim, Bull. Korean Chem. Soc. 36, 1769 (2015)), and charges where there are none."""
    # RDKit reads no exponents.
    rows = zip(atoms.symbols, atoms.positions, strict=True)
    lines = [f"{symbol} {x:.6f} {y:.6f} {z:.6f}" for symbol, (x, y, z) in rows]
    mol = Chem.MolFromXYZBlock("\n".join([str(len(lines)), "", *lines]))
    if mol is None:
        raise InvalidRequestError("its atoms cannot be read by RDKit: expected symbols or numbers and x, y, z in Å")
    net = 0 if atoms.charges is None else round(float(atoms.charges.sum()))
    try:
        rdDetermineBonds.DetermineConnectivity(mol)
        rdDetermineBonds.DetermineBondOrders(mol, charge=net, maxIterations=_MOST_TRIES)
    except (ValueError, RuntimeError) as exc:
        raise InvalidRequestError(f"its bonds cannot be told from distances ({exc}): use a file .mol or .sdf") from exc
    return to_molecule(mol, _modelled(mol, charges) if atoms.charges is None else atoms.charges)


def _modelled(mol: Chem.Mol, charges: Charges) -> np.ndarray:
    values = partial_charges(mol, charges)
    if values is None:
        raise InvalidRequestError(f"there are no {charges} charges for its atoms: write an .xyz file with charges")
    return values
