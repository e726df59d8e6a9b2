"""Small rings of a graph."""

from collections import deque
from collections.abc import Iterable


def small_rings(count: int, bonds: Iterable[tuple[int, int]], largest: int = 6) -> list[tuple[int, ...]]:
    """Find the shortest ring through every bond, unless it is larger than `largest`.

    Parameters
    ----------
    count
        Number of atoms.
    bonds
        Pairs of different atoms.
    largest
        Number of atoms.

    Returns
    -------
    list
        Each ring once, its atoms in the order in which they are bonded.
    """
    neighbours: list[set[int]] = [set() for _ in range(count)]
    bonds = list(bonds)
    for first, second in bonds:
        neighbours[first].add(second)
        neighbours[second].add(first)
    rings: dict[frozenset[int], tuple[int, ...]] = {}
    for first, second in bonds:
        ring = _way_round(neighbours, first, second, largest)
        if ring:
            rings.setdefault(frozenset(ring), ring)
    return list(rings.values())


def _way_round(neighbours: list[set[int]], start: int, end: int, largest: int) -> tuple[int, ...]:
    """Find the shortest way from `start` to `end` that is not the bond between them; empty when it is too long."""
    ways: deque[tuple[int, ...]] = deque([(start,)])
    visited = {start}
    while ways:
        way = ways.popleft()
        if len(way) == largest:
            break
        for atom in sorted(neighbours[way[-1]] - visited):
            if atom == end:
                if way != (start,):
                    return (*way, end)
                continue
            visited.add(atom)
            ways.append((*way, atom))
    return ()
