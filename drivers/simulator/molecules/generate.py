"""Make the molecule geometries of this folder (needs rdkit and ase; run ``python generate.py``).

Each molecule is built from its SMILES: ETKDGv3 embedding with a fixed seed, MMFF94 minimisation and
Gasteiger charges, all in RDKit.  Flat molecules are made exactly flat and symmetric.  C60 is built from
its two measured bond lengths.  Every molecule is turned into one common frame (see `orient`) and written beside this
script as extended xyz, with its charges in the column ``initial_charges``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rdkit
from ase import Atoms
from ase.io import write
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdPartialCharges

SEED = 20240
DECIMALS = 6
PLANAR_RMS = 0.05  # Å; a flat molecule deviating less than this is made exactly flat
DEGENERATE = 0.01  # a normalised moment smaller than this counts as zero

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Recipe:
    """One molecule to build from SMILES.

    Parameters
    ----------
    name : str
        File stem.
    formula : str
        Expected formula in Hill order, checked after building.
    smiles : str
        Structure, with stereochemistry where it matters.
    planar : bool
        Whether the molecule is flat in reality.
    """

    name: str
    formula: str
    smiles: str
    planar: bool = True


RECIPES = (
    Recipe("benzene", "C6H6", "c1ccccc1"),
    Recipe("naphthalene", "C10H8", "c1ccc2ccccc2c1"),
    Recipe("pentacene", "C22H14", "c1ccc2cc3cc4cc5ccccc5cc4cc3cc2c1"),
    Recipe("coronene", "C24H12", "c1cc2ccc3ccc4ccc5ccc6ccc1c7c2c3c4c5c67"),
    Recipe("ptcda", "C24H8O6", "O=C1OC(=O)c2ccc3c4ccc5C(=O)OC(=O)c6ccc(c7ccc1c2c37)c4c56"),
    Recipe(
        "phthalocyanine",
        "C32H18N8",
        "C1=CC=C2C(=C1)C3=NC4=NC(=NC5=C6C=CC=CC6=C(N5)N=C7C8=CC=CC=C8C(=N7)N=C2N3)C9=CC=CC=C94",
    ),
    Recipe("dibenzothiophene", "C12H8S", "c1ccc2c(c1)sc1ccccc12"),
    Recipe("camphor", "C10H16O", "CC1(C)[C@H]2CC[C@]1(C)C(=O)C2", planar=False),  # (1S,4S)
)


def minimise(mol: Chem.Mol, positions: FloatArray, *, macrocycles: bool = True) -> FloatArray:
    """Minimise a geometry with MMFF94.

    Parameters
    ----------
    mol : Chem.Mol
        Molecule with explicit hydrogens; left unchanged.
    positions : FloatArray
        Starting positions in Å, shape (N, 3).
    macrocycles : bool
        If False, rings of more than six atoms are hidden from the atom typing.  RDKit's MMFF94 takes the
        16-ring of a phthalocyanine for aromatic and then types its bridging nitrogens as anions (NM, 62)
        rather than as imines (N=C, 9).

    Returns
    -------
    FloatArray
        Converged positions in Å.
    """
    work = Chem.Mol(mol)
    if not macrocycles:
        Chem.Kekulize(work, clearAromaticFlags=True)
        info = work.GetRingInfo()
        small = [(a, b) for a, b in zip(info.AtomRings(), info.BondRings(), strict=True) if len(a) <= 6]
        work.ClearComputedProps(includeRings=True)
        for atoms, bonds in small:
            work.GetRingInfo().AddRing(atoms, bonds)
    work.GetConformer().SetPositions(np.ascontiguousarray(positions))
    parameters = rdForceFieldHelpers.MMFFGetMoleculeProperties(work, mmffVariant="MMFF94")
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(work, parameters)
    if field.Minimize(maxIts=20000, forceTol=1e-6, energyTol=1e-12) != 0:
        raise RuntimeError("MMFF94 did not converge")
    return np.array(work.GetConformer().GetPositions())


def symmetries(mol: Chem.Mol) -> NDArray[np.intp]:
    """Return the atom permutations that map the molecule onto itself, bond orders ignored, shape (K, N)."""
    rules = Chem.AdjustQueryParameters.NoAdjustments()
    rules.makeBondsGeneric = True
    query = Chem.AdjustQueryProperties(mol, rules)
    return np.array(mol.GetSubstructMatches(query, uniquify=False, maxMatches=1000))


def symmetrise(flat: FloatArray, permutations: NDArray[np.intp]) -> FloatArray:
    """Average a flat geometry over its permutations.

    This averages over the equivalent Kekulé structures too, so bond lengths come out delocalised.

    Parameters
    ----------
    flat : FloatArray
        Positions with z = 0, shape (N, 3).
    permutations : NDArray[np.intp]
        From `symmetries`.

    Returns
    -------
    FloatArray
        Symmetric positions with z = 0.
    """
    xy = flat[:, :2] - flat[:, :2].mean(axis=0)
    for _ in range(20):
        copies = []
        for permutation in permutations:
            u, _, vt = np.linalg.svd(xy[permutation].T @ xy)  # best rotation or reflection in the plane
            copies.append(xy[permutation] @ u @ vt)
        xy = np.mean(copies, axis=0)
    return np.column_stack([xy, np.zeros(len(xy))])


def thin_axis(positions: FloatArray) -> FloatArray:
    """Return the principal axis along which the molecule is thinnest."""
    centred = positions - positions.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1].T
    return axes[np.argmin(np.ptp(centred @ axes.T, axis=0))]


def plane_rms(positions: FloatArray) -> float:
    """Return the rms distance in Å of the atoms from their best plane."""
    centred = positions - positions.mean(axis=0)
    return float(np.linalg.svd(centred, compute_uv=False)[2] / np.sqrt(len(centred)))


def sign(values: FloatArray) -> float:
    """Return the sign that makes the third moment positive or, where it vanishes, the first clear value."""
    skew = np.sum(values**3) / np.sum(np.abs(values) ** 3)
    return float(np.sign(skew if abs(skew) > DEGENERATE else values[np.abs(values) > 0.1][0]))


def orient(positions: FloatArray, normal: FloatArray) -> FloatArray:
    """Turn a molecule into the common frame, by a proper rotation (chirality is kept).

    The normal goes along z.  In the plane, the axes are those of the lowest non-vanishing multipole (the
    principal axes, or the symmetry axes if those are degenerate), the longest extent along x; `sign` picks
    their directions.  The bounding box is centred on x = y = 0 and the topmost atom lies at z = 0.

    Parameters
    ----------
    positions : FloatArray
        Positions in Å, shape (N, 3).
    normal : FloatArray
        Direction to turn along z, shape (3,).

    Returns
    -------
    FloatArray
        Positions in the common frame.
    """
    centred = positions - positions.mean(axis=0)
    z_axis = normal / np.linalg.norm(normal)
    first = np.cross(z_axis, np.eye(3)[np.argmin(np.abs(z_axis))])
    first /= np.linalg.norm(first)
    second = np.cross(z_axis, first)
    plane = centred @ first + 1j * (centred @ second)
    for fold in range(2, 7):
        moment = np.sum(plane**fold) / np.sum(np.abs(plane) ** fold)
        if abs(moment) > DEGENERATE:
            break
    else:
        raise ValueError("no in-plane axis found")
    angles = (np.angle(moment) + np.pi * np.arange(fold)) / fold
    extents = [np.ptp((plane * np.exp(-1j * angle)).real) for angle in angles]
    angle = angles[np.argmax(np.round(extents, 3))]
    x_axis = np.cos(angle) * first + np.sin(angle) * second
    x_axis = x_axis * sign(centred @ x_axis)
    y_axis = np.cross(z_axis, x_axis)
    y_axis = y_axis * sign(centred @ y_axis)
    turned = centred @ np.column_stack([x_axis, y_axis, np.cross(x_axis, y_axis)])
    turned -= (turned.max(axis=0) + turned.min(axis=0)) / 2
    turned[:, 2] -= turned[:, 2].max()
    return turned


def gasteiger(mol: Chem.Mol) -> FloatArray:
    """Return Gasteiger charges in e, shifted uniformly so that they sum to zero."""
    work = Chem.Mol(mol)
    rdPartialCharges.ComputeGasteigerCharges(work, throwOnParamFailure=True)
    charges = np.array([atom.GetDoubleProp("_GasteigerCharge") for atom in work.GetAtoms()])
    if not np.all(np.isfinite(charges)):
        raise ValueError("Gasteiger charges are not finite")
    return charges - charges.mean()


def from_smiles(recipe: Recipe) -> Atoms:
    """Build one molecule.

    Parameters
    ----------
    recipe : Recipe
        What to build.

    Returns
    -------
    Atoms
        The molecule in the common frame, with charges.
    """
    mol = Chem.AddHs(Chem.MolFromSmiles(recipe.smiles))
    settings = rdDistGeom.ETKDGv3()
    settings.randomSeed = SEED
    if rdDistGeom.EmbedMolecule(mol, settings) != 0:
        raise RuntimeError(f"{recipe.name}: no conformer")
    positions = minimise(mol, np.array(mol.GetConformer().GetPositions()))
    charges = gasteiger(mol)
    origin = f"RDKit ETKDGv3 + MMFF94, Gasteiger charges, RDKit {rdkit.__version__}"
    if recipe.planar:
        if plane_rms(positions) > PLANAR_RMS:
            raise ValueError(f"{recipe.name} is not planar")
        flat = orient(positions, thin_axis(positions)) * [1.0, 1.0, 0.0]
        if max(map(len, mol.GetRingInfo().AtomRings())) > 6:
            flat = minimise(mol, flat, macrocycles=False)  # exactly flat, so no force leaves the plane
        permutations = symmetries(mol)
        positions = symmetrise(flat * [1.0, 1.0, 0.0], permutations)
        charges = charges[permutations].mean(axis=0)
        origin += ", flat and symmetrised"
    atoms = Atoms([atom.GetSymbol() for atom in mol.GetAtoms()], orient(positions, thin_axis(positions)))
    if atoms.get_chemical_formula("hill") != recipe.formula:
        raise ValueError(f"{recipe.name}: {atoms.get_chemical_formula('hill')} is not {recipe.formula}")
    atoms.set_initial_charges(charges)
    atoms.info.update(name=recipe.name, origin=origin)
    return atoms


def buckminsterfullerene() -> Atoms:
    """Return C60, a truncated icosahedron with a hexagon on top, all charges zero.

    Its two bond lengths are those of electron diffraction (Hedberg et al., Science 254, 410 (1991)).
    """
    single, double = 1.458, 1.401
    golden = (1 + np.sqrt(5)) / 2
    corners = np.array([np.roll((0, s, t * golden), k) for k in range(3) for s in (-1, 1) for t in (-1, 1)])
    edge = 2 * single + double
    corners *= edge / 2
    # Cutting off a corner at this part of its edges leaves pentagons of single bonds.
    part = single / edge
    separation = np.linalg.norm(corners[:, None] - corners[None], axis=-1)
    starts, ends = np.nonzero(np.isclose(separation, edge))
    cage = corners[starts] + part * (corners[ends] - corners[starts])
    face = corners[[0, *np.nonzero(np.isclose(separation[0], edge))[0]]]
    second = face[1]
    third = next(corner for corner in face[2:] if np.isclose(np.linalg.norm(corner - second), edge))
    c60 = Atoms("C60", orient(cage, face[0] + second + third))
    c60.set_initial_charges(np.zeros(len(c60)))
    c60.info.update(name="c60", origin="truncated icosahedron, bonds of Hedberg et al. (1991), zero charges")
    return c60


def main() -> None:
    """Write every molecule beside this script."""
    for atoms in [*map(from_smiles, RECIPES), buckminsterfullerene()]:
        atoms.positions = np.round(atoms.positions, DECIMALS) + 0.0  # the sum turns -0 into 0
        atoms.set_initial_charges(np.round(atoms.get_initial_charges(), DECIMALS) + 0.0)
        path = Path(__file__).with_name(f"{atoms.info['name']}.xyz")
        write(path, atoms, format="extxyz", columns=["symbols", "positions", "initial_charges"])
        print(f"{path.name}: {len(atoms)} atoms")


if __name__ == "__main__":
    main()
