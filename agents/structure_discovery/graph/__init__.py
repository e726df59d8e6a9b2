"""From maps to a molecule: atoms as peaks, bonds between them, files for other programs, and scores."""

from twinscope.agents.structure_discovery.graph.align import find_shift, shifted
from twinscope.agents.structure_discovery.graph.bonds import connected, find_bonds
from twinscope.agents.structure_discovery.graph.confidence import Confidence
from twinscope.agents.structure_discovery.graph.export import mol_text, to_ase, write_structure
from twinscope.agents.structure_discovery.graph.matching import Comparison, compare
from twinscope.agents.structure_discovery.graph.peak_fit import PeakShape
from twinscope.agents.structure_discovery.graph.peaks import Peaks, find_atoms
from twinscope.agents.structure_discovery.graph.summary import Summary, summarise
from twinscope.agents.structure_discovery.graph.xyz import read_xyz, xyz_text

__all__ = [
    "Comparison",
    "Confidence",
    "PeakShape",
    "Peaks",
    "Summary",
    "compare",
    "connected",
    "find_atoms",
    "find_bonds",
    "find_shift",
    "mol_text",
    "read_xyz",
    "shifted",
    "summarise",
    "to_ase",
    "write_structure",
    "xyz_text",
]
