"""Small clusters that hydrogen bonds hold together: water, and pairs of polar molecules."""

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers
from rdkit.Geometry import Point3D

_WATER = "O"
_POLAR = (
    *(
        "OC=O",
        "CC(=O)O",
        "NC=O",
        "CC(N)=O",
        "NC(N)=O",
        "O=c1cc[nH]c(=O)[nH]1",
        "O=c1cccc[nH]1",
        "Oc1ccccc1",
        "c1c[nH]cn1",
    ),
    *("Nc1ccccn1", "OC(=O)c1ccccc1", "O=C(O)C(=O)O", "CO", "Nc1ncnc2[nH]cnc12", "Nc1cc[nH]c(=O)n1", "O=C1CCCN1"),
    *(
        "O=C1NC(=O)c2ccccc12",
        "OC(=O)c1ccncc1",
        "Oc1ccc(O)cc1",
        "CCO",
        "OCCO",
        "NCC(=O)O",
        "O=C1CCC(=O)N1",
        "Fc1ccc(O)cc1",
    ),
)
_DISTANCE = (1.5, 2.3)  # Å: of a hydrogen atom and the acceptor of its bond
_LAYERS = 1.2
_STEPS = 2000


def cluster_smiles(rng: np.random.Generator) -> str:
    """Choose what a cluster is made of: water, two polar molecules, or one with water."""
    kind = rng.random()
    if kind < 0.4:
        parts = [_WATER] * int(rng.integers(2, 7))
    elif kind < 0.7:
        parts = [_POLAR[index] for index in rng.integers(len(_POLAR), size=2)]
    else:
        parts = [_POLAR[rng.integers(len(_POLAR))]] + [_WATER] * int(rng.integers(1, 4))
    return ".".join(parts)


def arrange(mol: Chem.Mol, rng: np.random.Generator) -> bool:
    """Bring the parts of a molecule with hydrogens, each with a geometry, near each other and minimise with MMFF94.

    Returns
    -------
    bool
        Whether it converged with every part on a hydrogen bond.
    """
    parts = Chem.GetMolFrags(mol)
    conformer = mol.GetConformer()
    positions = conformer.GetPositions()
    for placed, part in enumerate(parts):
        before = [atom for done in parts[:placed] for atom in done]
        positions[list(part)] = _beside(positions[before], positions[list(part)], rng)
    for atom, position in enumerate(positions):
        conformer.SetAtomPosition(atom, Point3D(*position.tolist()))
    rest = rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=_STEPS, ignoreInterfragInteractions=False)
    return rest == 0 and _is_held(mol, parts)


def _beside(placed: np.ndarray, part: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn a part at random and move it inwards from afar, near the plane z = 0, until it is 2 Å from the others."""
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = (part - part.mean(axis=0)) @ (rotation * np.sign(np.linalg.det(rotation)))
    if not len(placed):
        return turned
    angle = rng.uniform(0, 2 * np.pi)
    way = np.array([np.cos(angle), np.sin(angle), 0.0])
    offset = placed.mean(axis=0) + np.array([0, 0, rng.uniform(-_LAYERS, _LAYERS)])
    for distance in np.arange(20.0, 0.0, -0.2):
        there = turned + offset + distance * way
        if np.linalg.norm(there[:, None] - placed, axis=-1).min() < 2.0:
            break
    return there


def _is_held(mol: Chem.Mol, parts: tuple[tuple[int, ...], ...]) -> bool:
    """Whether hydrogen bonds connect all parts."""
    positions = mol.GetConformer().GetPositions()
    part_of = np.empty(mol.GetNumAtoms(), int)
    for index, part in enumerate(parts):
        part_of[list(part)] = index
    polar = [7, 8]
    donors = [
        atom.GetIdx()
        for atom in mol.GetAtoms()
        if atom.GetAtomicNum() == 1 and atom.GetNeighbors()[0].GetAtomicNum() in polar
    ]
    acceptors = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() in polar]
    distances = np.linalg.norm(positions[donors][:, None] - positions[acceptors], axis=-1)
    held, reached = {0}, -1
    links = [
        {int(part_of[donors[i]]), int(part_of[acceptors[j]])}
        for i, j in np.argwhere((distances > _DISTANCE[0]) & (distances < _DISTANCE[1]))
    ]
    while reached != len(held):
        reached = len(held)
        held |= {part for link in links if link & held for part in link}
    return len(held) == len(parts)
