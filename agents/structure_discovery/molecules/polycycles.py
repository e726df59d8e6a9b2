"""Flat fused rings: pieces of graphene, with other elements in them and acid groups at their rim.

Acenes, perylene and coronene are such pieces; with two anhydrides perylene becomes PTCDA, with imides a dye; with atoms
of nitrogen, oxygen or sulphur in the rim they are heterocycles.
"""

from dataclasses import dataclass, field

import numpy as np
from rdkit import Chem

# Corners of a hexagon about its centre, in units of half a lattice constant and half a bond: integers, so that the
# corners of neighbours are equal.
_CORNERS = ((0, 2), (1, 1), (1, -1), (0, -2), (-1, -1), (-1, 1))
_NEIGHBOURS = ((1, 0), (0, 1), (-1, 1), (-1, 0), (0, -1), (1, -1))
_AROMATIC_BRIDGES = frozenset({"O", "N", "S"})

Cell = tuple[int, int]
Site = tuple[int, int]


@dataclass
class _Sheet:
    """A molecule under construction; `atoms` tells where the corners of the honeycomb are in it."""

    mol: Chem.RWMol
    atoms: dict[Site, int]
    rings: list[list[int]]
    touched: set[int] = field(default_factory=set)

    def rim(self) -> list[int]:
        """Atoms with a hydrogen that nothing was done to."""
        return [
            atom
            for atom in sorted(self.atoms.values())
            if atom not in self.touched and self.mol.GetAtomWithIdx(atom).GetDegree() == 2
        ]

    def finished(self) -> Chem.Mol:
        """Return the molecule without the atoms that lost their place."""
        self.mol.BeginBatchEdit()
        for atom in self.mol.GetAtoms():
            if atom.GetAtomicNum() == 0:
                self.mol.RemoveAtom(atom.GetIdx())
        self.mol.CommitBatchEdit()
        return self.mol.GetMol()


def polycycle(rng: np.random.Generator, rings: int, bridges: tuple[str, ...]) -> Chem.Mol | None:
    """Make flat fused rings at random.

    Parameters
    ----------
    rng
        Decides everything.
    rings
        Number of six-membered rings to begin with.
    bridges
        What may make five-membered rings, see :class:`.Catalogue`.

    Returns
    -------
    Mol or None
        Sanitised; None where there are no double bonds that would do.
    """
    sheet = _sheet(_cells(rng, rings))
    for _ in range(rng.choice(3, p=(0.55, 0.35, 0.1))):
        _contract(rng, sheet, bridges[rng.integers(len(bridges))])
    for _ in range(rng.choice(3, p=(0.55, 0.25, 0.2))):
        _close_acid(rng, sheet)
    if rng.random() < 0.15:
        _oxidise(rng, sheet)
    for _ in range(rng.choice(5, p=(0.4, 0.25, 0.2, 0.1, 0.05))):
        _put_nitrogen(rng, sheet)
    mol = sheet.finished()
    return mol if Chem.SanitizeMol(mol, catchErrors=True) == Chem.SANITIZE_NONE else None


def _cells(rng: np.random.Generator, count: int) -> list[Cell]:
    """Choose hexagons that hang together: a row, a compact piece, or anything between."""
    cells: list[Cell] = [(0, 0)]
    straight, compact = rng.random() < 0.25, rng.random() < 0.4
    while len(cells) < count:
        if straight and rng.random() < 0.8:
            new = (cells[-1][0] + 1, cells[-1][1])
        else:
            free = sorted({(q + a, r + b) for q, r in cells for a, b in _NEIGHBOURS} - set(cells))
            touching = [sum((q + a, r + b) in cells for a, b in _NEIGHBOURS) for q, r in free]
            weights = np.array(touching, float) ** (3 if compact else 0.5)
            new = free[rng.choice(len(free), p=weights / weights.sum())]
        if new not in cells:
            cells.append(new)
    return cells


def _sheet(cells: list[Cell]) -> _Sheet:
    mol = Chem.RWMol()
    atoms: dict[Site, int] = {}
    rings = []
    for q, r in cells:
        ring = []
        for dx, dy in _CORNERS:
            site = (2 * q + r + dx, 3 * r + dy)
            if site not in atoms:
                atoms[site] = mol.AddAtom(Chem.Atom("C"))
                mol.GetAtomWithIdx(atoms[site]).SetIsAromatic(True)
            ring.append(atoms[site])
        for first, second in zip(ring, ring[1:] + ring[:1], strict=True):
            if mol.GetBondBetweenAtoms(first, second) is None:
                _bind(mol, first, second, Chem.BondType.AROMATIC)
        rings.append(ring)
    return _Sheet(mol, atoms, rings)


def _bind(mol: Chem.RWMol, first: int, second: int, order: Chem.BondType) -> None:
    mol.AddBond(first, second, order)
    mol.GetBondBetweenAtoms(first, second).SetIsAromatic(order == Chem.BondType.AROMATIC)


def _neighbours(mol: Chem.Mol, atom: int) -> list[int]:
    return [neighbour.GetIdx() for neighbour in mol.GetAtomWithIdx(atom).GetNeighbors()]


def _pick(rng: np.random.Generator, choices: list[tuple[int, ...]]) -> tuple[int, ...]:
    return choices[rng.integers(len(choices))]


def _edges(sheet: _Sheet) -> list[tuple[int, ...]]:
    """Pairs of neighbours at the rim, both with a hydrogen."""
    rim = sheet.rim()
    return [(a, b) for a in rim for b in _neighbours(sheet.mol, a) if a < b and b in rim]


def _bays(sheet: _Sheet) -> list[tuple[int, ...]]:
    """Pairs of the rim with one atom between them that has no hydrogen, as in naphthalene 1 and 8."""
    rim = sheet.rim()
    pairs = set()
    for middle in sheet.atoms.values():
        beside = [atom for atom in _neighbours(sheet.mol, middle) if atom in rim]
        if sheet.mol.GetAtomWithIdx(middle).GetDegree() == 3 and len(beside) == 2:
            pairs.add((min(beside), max(beside)))
    return sorted(pairs)


def _contract(rng: np.random.Generator, sheet: _Sheet, bridge: str) -> None:
    """Put one atom in the place of two: a ring with six members gets five."""
    edges = _edges(sheet)
    if not edges:
        return
    kept, lost = _pick(rng, edges)
    beyond = next(atom for atom in _neighbours(sheet.mol, lost) if atom != kept)
    if sheet.mol.GetBondBetweenAtoms(kept, beyond) is not None:
        return
    # The atom stays where it is, without a bond, until the end: its number is needed no more, those of others are.
    sheet.mol.RemoveBond(kept, lost)
    sheet.mol.RemoveBond(lost, beyond)
    _bind(sheet.mol, kept, beyond, Chem.BondType.AROMATIC)
    sheet.touched.update((kept, lost))
    sheet.mol.GetAtomWithIdx(lost).SetAtomicNum(0)
    _become(sheet.mol, kept, bridge)


def _become(mol: Chem.RWMol, atom: int, bridge: str) -> None:
    """Make the atom, which has two neighbours, the first one of `bridge`."""
    fragment = Chem.MolFromSmiles(bridge)
    first = fragment.GetAtomWithIdx(0)
    target = mol.GetAtomWithIdx(atom)
    target.SetAtomicNum(first.GetAtomicNum())
    aromatic = bridge in _AROMATIC_BRIDGES
    if bridge == "N":
        target.SetNumExplicitHs(1)
    if not aromatic:
        target.SetIsAromatic(False)
        for neighbour in _neighbours(mol, atom):
            bond = mol.GetBondBetweenAtoms(atom, neighbour)
            bond.SetBondType(Chem.BondType.SINGLE)
            bond.SetIsAromatic(False)
    for bond in first.GetBonds():
        new = mol.AddAtom(Chem.Atom(bond.GetOtherAtom(first).GetAtomicNum()))
        mol.AddBond(atom, new, bond.GetBondType())


def _close_acid(rng: np.random.Generator, sheet: _Sheet) -> None:
    """Close a ring of an anhydride or imide over a bay (six members, as in PTCDA) or over an edge (five)."""
    bays, edges = _bays(sheet), _edges(sheet)
    choices = bays if bays and (not edges or rng.random() < 0.75) else edges
    if not choices:
        return
    pair = _pick(rng, choices)
    middle = sheet.mol.AddAtom(Chem.Atom("O" if rng.random() < 0.5 else "N"))
    for atom in pair:
        carbon = sheet.mol.AddAtom(Chem.Atom("C"))
        oxygen = sheet.mol.AddAtom(Chem.Atom("O"))
        sheet.mol.AddBond(atom, carbon, Chem.BondType.SINGLE)
        sheet.mol.AddBond(carbon, middle, Chem.BondType.SINGLE)
        sheet.mol.AddBond(carbon, oxygen, Chem.BondType.DOUBLE)
    sheet.touched.update(pair)


def _oxidise(rng: np.random.Generator, sheet: _Sheet) -> None:
    """Make a quinone: two atoms of the rim carry oxygen."""
    rim = sheet.rim()
    if len(rim) < 2:
        return
    for atom in rng.choice(rim, 2, replace=False).tolist():
        oxygen = sheet.mol.AddAtom(Chem.Atom("O"))
        sheet.mol.AddBond(atom, oxygen, Chem.BondType.DOUBLE)
        sheet.touched.add(atom)


def _put_nitrogen(rng: np.random.Generator, sheet: _Sheet) -> None:
    """Put nitrogen in the place of CH, beside carbon."""
    rim = [
        atom
        for atom in sheet.rim()
        if all(sheet.mol.GetAtomWithIdx(beside).GetAtomicNum() == 6 for beside in _neighbours(sheet.mol, atom))
    ]
    if rim:
        atom = rim[rng.integers(len(rim))]
        sheet.mol.GetAtomWithIdx(atom).SetAtomicNum(7)
        sheet.touched.add(atom)
