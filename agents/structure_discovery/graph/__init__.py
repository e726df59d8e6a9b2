"""From maps to a molecule: atoms as peaks, what they are together, files for other programs, and scores."""

from twinscope.agents.structure_discovery.graph.align import find_shift, shifted
from twinscope.agents.structure_discovery.graph.export import mol_text, to_ase, write_structure
from twinscope.agents.structure_discovery.graph.matching import Comparison, compare
from twinscope.agents.structure_discovery.graph.peak_fit import PeakShape
from twinscope.agents.structure_discovery.graph.peaks import Peaks, find_atoms
from twinscope.agents.structure_discovery.graph.summary import Summary, summarise
from twinscope.agents.structure_discovery.graph.xyz import read_xyz, xyz_text

__all__ = [
    "Comparison",
    "PeakShape",
    "Peaks",
    "Summary",
    "compare",
    "find_atoms",
    "find_shift",
    "mol_text",
    "read_xyz",
    "shifted",
    "summarise",
    "to_ase",
    "write_structure",
    "xyz_text",
]
