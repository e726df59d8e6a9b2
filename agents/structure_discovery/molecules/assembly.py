"""Molecules at random: fragments, joined by linkers and dressed with substituents."""

import functools

import numpy as np
from rdkit import Chem

from twinscope.agents.structure_discovery.molecules.fragments import CATALOGUES, SYMBOLS, Catalogue
from twinscope.agents.structure_discovery.molecules.polycycles import polycycle

FEWEST_ATOMS, MOST_ATOMS = 6, 60
_MOST_HEAVY = 38
_CARBON_LIKE = frozenset({6, 14, 15, 16})  # may be bound to anything
_FLAT_LINKERS = ("", "*C#C*", "*N=N*", "*C=C*", "*C#CC#C*")
_TRIES = 5


def assemble(rng: np.random.Generator, elements: str, *, flat: bool) -> Chem.Mol | None:
    """Put a molecule together.

    Parameters
    ----------
    rng
        Decides everything.
    elements
        A key of :data:`.CATALOGUES`.
    flat
        Only flat rings and groups.

    Returns
    -------
    Mol or None
        Sanitised, without explicit hydrogens; None where the attempt gave no molecule of the right size and elements.
    """
    catalogue = CATALOGUES[elements]
    mol = _flat(rng, catalogue) if flat else _any(rng, catalogue)
    return mol if mol is not None and _is_wanted(mol, elements) else None


def _flat(rng: np.random.Generator, catalogue: Catalogue) -> Chem.Mol | None:
    if rng.random() < 0.7:
        mol = polycycle(rng, int(rng.integers(2, 10)), catalogue.bridges)
    else:
        mol = _fragment(_one_of(rng, catalogue.aromatic))
        if rng.random() < 0.3:
            mol = _join(rng, mol, _fragment(_one_of(rng, catalogue.aromatic)), _one_of(rng, _FLAT_LINKERS))
    return _dress(rng, mol, catalogue.flat_substituents, int(rng.choice(5, p=(0.2, 0.3, 0.25, 0.15, 0.1))))


def _any(rng: np.random.Generator, catalogue: Catalogue) -> Chem.Mol | None:
    mol = _core(rng, catalogue)
    for _ in range(rng.choice(3, p=(0.45, 0.45, 0.1))):
        mol = _join(rng, mol, _core(rng, catalogue), _one_of(rng, catalogue.linkers))
    return _dress(rng, mol, catalogue.substituents, int(rng.choice(6, p=(0.1, 0.25, 0.25, 0.2, 0.1, 0.1))))


def _core(rng: np.random.Generator, catalogue: Catalogue) -> Chem.Mol | None:
    kind = rng.choice(4, p=(0.36, 0.36, 0.16, 0.12))
    if kind == 3:
        return polycycle(rng, int(rng.integers(2, 6)), catalogue.bridges)
    return _fragment(_one_of(rng, (catalogue.aromatic, catalogue.saturated, catalogue.chains)[kind]))


def _one_of(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[rng.integers(len(choices))]


@functools.cache
def _fragment(smiles: str) -> Chem.Mol:
    return Chem.MolFromSmiles(smiles)


def _sites(mol: Chem.Mol) -> list[int]:
    """Atoms of which a hydrogen may be replaced."""
    return [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetTotalNumHs() > 0]


def _bonded(mol: Chem.RWMol, first: int, second: int) -> bool:
    """Bind two atoms with a single bond, in place of a hydrogen of each; not two of N, O and F."""
    atoms = [mol.GetAtomWithIdx(index) for index in (first, second)]
    if not any(atom.GetAtomicNum() in _CARBON_LIKE for atom in atoms):
        return False
    for atom in atoms:
        if atom.GetNumExplicitHs():
            atom.SetNumExplicitHs(atom.GetNumExplicitHs() - 1)
    mol.AddBond(first, second, Chem.BondType.SINGLE)
    return True


def _join(rng: np.random.Generator, mol: Chem.Mol | None, other: Chem.Mol | None, linker: str) -> Chem.Mol | None:
    """Link two molecules at random places."""
    if mol is None or other is None:
        return None
    first, second = _sites(mol), _sites(other)
    if not first or not second:
        return mol
    joined = Chem.RWMol(Chem.CombineMols(mol, other))
    start = first[rng.integers(len(first))]
    end = mol.GetNumAtoms() + second[rng.integers(len(second))]
    done = _linked(joined, start, end, _fragment(linker)) if linker else _bonded(joined, start, end)
    return _sanitised(joined) if done else mol


def _linked(mol: Chem.RWMol, start: int, end: int, linker: Chem.Mol) -> bool:
    """Bind two atoms to the ends of a linker, which are beside its stars; the first and the last atom are stars."""
    stars = (mol.GetNumAtoms(), mol.GetNumAtoms() + linker.GetNumAtoms() - 1)
    mol.InsertMol(linker)
    done = all(
        _bonded(mol, atom, mol.GetAtomWithIdx(star).GetNeighbors()[0].GetIdx())
        for atom, star in zip((start, end), stars, strict=True)
    )
    for star in reversed(stars):
        mol.RemoveAtom(star)
    return done


def _dress(
    rng: np.random.Generator, mol: Chem.Mol | None, substituents: tuple[str, ...], count: int
) -> Chem.Mol | None:
    """Replace hydrogens by substituents, as many of them as find a place."""
    for _ in range(count):
        if mol is None:
            return None
        for _ in range(_TRIES):
            sites = _sites(mol)
            if not sites:
                return mol
            dressed = Chem.RWMol(mol)
            start = dressed.GetNumAtoms()
            dressed.InsertMol(_fragment(_one_of(rng, substituents)))
            if _bonded(dressed, sites[rng.integers(len(sites))], start):
                mol = _sanitised(dressed)
                break
    return mol


def _sanitised(mol: Chem.RWMol) -> Chem.Mol | None:
    result = mol.GetMol()
    return result if Chem.SanitizeMol(result, catchErrors=True) == Chem.SANITIZE_NONE else None


def _is_wanted(mol: Chem.Mol, elements: str) -> bool:
    if mol.GetNumAtoms() > _MOST_HEAVY or not all(atom.GetSymbol() in SYMBOLS[elements] for atom in mol.GetAtoms()):
        return False
    return FEWEST_ATOMS <= mol.GetNumAtoms() + sum(atom.GetTotalNumHs() for atom in mol.GetAtoms()) <= MOST_ATOMS
