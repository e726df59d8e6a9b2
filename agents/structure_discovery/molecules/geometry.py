"""From a molecular graph to atoms in space, with charges and identifiers."""

import hashlib

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdPartialCharges
from rdkit.Chem.Scaffolds import MurckoScaffold

from twinscope.agents.structure_discovery.molecules.clusters import arrange
from twinscope.agents.structure_discovery.molecules.molecule import Molecule
from twinscope.agents.structure_discovery.molecules.recipe import Charges

LONGEST = 16.0
"""Å: the field of view of the published networks; longer molecules are not made."""

_STEPS = 2000


def _seed_of(text: str) -> int:
    """Turn a text into a seed, the same on every machine; it fits into 31 bits."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def scaffold_of(mol: Chem.Mol) -> str:
    """Name the Murcko scaffold of a molecule, or its carbon skeleton where it has no ring, without stereochemistry."""
    bare = Chem.RemoveHs(mol)
    Chem.RemoveStereochemistry(bare)
    return ".".join(sorted(_scaffold_of_part(part) for part in Chem.GetMolFrags(bare, asMols=True)))


def _scaffold_of_part(mol: Chem.Mol) -> str:
    rings = MurckoScaffold.GetScaffoldForMol(mol)
    return Chem.MolToSmiles(rings if rings.GetNumAtoms() else MurckoScaffold.MakeScaffoldGeneric(mol))


def build(smiles: str, key: str, charges: Charges = "gasteiger") -> Molecule | None:
    """Find the geometry of a molecule.

    ETKDGv3 (Wang et al., J. Chem. Inf. Model. 60, 2044 (2020)) and MMFF94; UFF where MMFF94 lacks an atom type, which
    is so for most molecules with silicon.

    Parameters
    ----------
    smiles
        The parts of a cluster are separated by dots.
    key
        Decides what is left to chance: the stereochemistry that the SMILES leave open, and how a cluster is arranged.
    charges
        See :class:`.Recipe`.

    Returns
    -------
    Molecule or None
        Centred, its longest axis along x and its shortest along z. None where no geometry was found, where it is longer
        than :data:`LONGEST`, or where there are no charges for its elements.
    """
    with rdBase.BlockLogs():  # what gives no geometry is no news
        try:
            return _build(smiles, _seed_of(key), charges)
        except Chem.MolSanitizeException:  # a very few have double bonds that force fields cannot place
            return None


def _build(smiles: str, seed: int, charges: Charges) -> Molecule | None:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if not _embed(mol, seed):
        return None
    if "." in smiles:
        if not arrange(mol, np.random.default_rng(seed)):
            return None
    elif not _minimise(mol):
        return None
    Chem.AssignStereochemistryFrom3D(mol)
    values = partial_charges(mol, charges)
    molecule = None if values is None else to_molecule(mol, values)
    return molecule if molecule is not None and molecule.extent <= LONGEST else None


def _embed(mol: Chem.Mol, seed: int) -> bool:
    settings = rdDistGeom.ETKDGv3()
    settings.randomSeed = seed
    settings.maxIterations = 20
    if rdDistGeom.EmbedMolecule(mol, settings) == 0:
        return True
    settings.useRandomCoords = True  # cages often need it
    return rdDistGeom.EmbedMolecule(mol, settings) == 0


def _minimise(mol: Chem.Mol) -> bool:
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        return rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=_STEPS) == 0
    if rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        return rdForceFieldHelpers.UFFOptimizeMolecule(mol, maxIters=_STEPS) == 0
    return False


def to_molecule(mol: Chem.Mol, charges: np.ndarray) -> Molecule:
    """Take over a molecule that has a geometry and all its hydrogens; the charges are in e, shape (n,)."""
    ends = np.array([(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()], int).reshape(-1, 2)
    bare = Chem.RemoveHs(mol)
    return Molecule(
        smiles=Chem.MolToSmiles(bare),
        inchikey=Chem.MolToInchiKey(bare),
        scaffold=scaffold_of(bare),
        numbers=np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()]),
        positions=_along_axes(mol.GetConformer().GetPositions()),
        charges=charges,
        bonds=np.sort(ends, axis=1),
        bond_orders=np.array([bond.GetBondTypeAsDouble() for bond in mol.GetBonds()]),
    )


def partial_charges(mol: Chem.Mol, model: Charges) -> np.ndarray | None:
    """Compute partial charges in e, shape (n,), or None where the model does not know an element."""
    if model == "mmff94":
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
        if properties is None:
            return None
        return np.array([properties.GetMMFFPartialCharge(index) for index in range(mol.GetNumAtoms())])
    rdPartialCharges.ComputeGasteigerCharges(mol)
    values = np.array([atom.GetDoubleProp("_GasteigerCharge") for atom in mol.GetAtoms()])
    return values if np.isfinite(values).all() else None


def _along_axes(positions: np.ndarray) -> np.ndarray:
    """Centre, and turn the principal axes to x, y and z without a mirror."""
    centred = positions - positions.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=True)
    axes[-1] *= np.sign(np.linalg.det(axes))
    return centred @ axes.T
