"""Pure numerics of the microscope, in JAX: arrays in, arrays out; no files, no clocks, no global state.

Lengths are in Å, energies in eV, charges in e; spring and cantilever constants in N/m, as they are quoted.
"""

from twinscope.kernels._checks import check_tip as check_tip
from twinscope.kernels._constants import COULOMB as COULOMB
from twinscope.kernels._constants import NEWTON_PER_METRE as NEWTON_PER_METRE
from twinscope.kernels._elements import ELEMENTS as ELEMENTS
from twinscope.kernels._elements import LennardJones as LennardJones
from twinscope.kernels._elements import atomic_number as atomic_number
from twinscope.kernels._elements import placeholder_elements as placeholder_elements
from twinscope.kernels._frequency_shift import frequency_shift as frequency_shift
from twinscope.kernels._frequency_shift import frequency_shift_at as frequency_shift_at
from twinscope.kernels._frequency_shift import frequency_shift_weights as frequency_shift_weights
from twinscope.kernels._frequency_shift import interpolation_weights as interpolation_weights
from twinscope.kernels._mixing import lennard_jones_coefficients as lennard_jones_coefficients
from twinscope.kernels._mixing import mixed_parameters as mixed_parameters
from twinscope.kernels._plane import Plane as Plane
from twinscope.kernels._properties import ProbeProperties as ProbeProperties
from twinscope.kernels._properties import probe_properties as probe_properties
from twinscope.kernels._simulate import relax_columns as relax_columns
from twinscope.kernels._simulate import simulate as simulate
from twinscope.kernels._sites import ChargeSites as ChargeSites
from twinscope.kernels._sites import PairSites as PairSites
from twinscope.kernels._sites import pair_terms as pair_terms
from twinscope.kernels._terms import Term as Term
from twinscope.kernels._terms import TermSum as TermSum
from twinscope.kernels._types import Atoms as Atoms
from twinscope.kernels._types import Cantilever as Cantilever
from twinscope.kernels._types import RelaxedColumns as RelaxedColumns
from twinscope.kernels._types import RelaxedScan as RelaxedScan
from twinscope.kernels._types import ScanGrid as ScanGrid
from twinscope.kernels._types import Tip as Tip
