import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar

from twinscope.kernels import Atoms, Cantilever, ScanGrid, Tip, dissipated_energy, simulate, simulate_cycle
from twinscope.kernels._dissipation import SAME_BRANCH

# The same branch is computed to this, in eV/Å and in eV per cycle; measured 6e-6 and 2e-6.
FORCE, ENERGY = 2e-5, 1e-5
AXIS = np.linspace(-3.5, 3.5, 8, dtype="float32")
# The same shapes for all, so that both ways are compiled once. Close to a benzene CO snaps at four of the positions.
SMOOTH = ScanGrid(AXIS, AXIS, np.linspace(8.5, 6.5, 24, dtype="float32"))
CLOSE = ScanGrid(AXIS, AXIS, np.linspace(7.5, 5.5, 24, dtype="float32"))


def forces(scans):
    return [np.asarray(scan.force_z, float) for scan in scans]


@pytest.mark.parametrize(("grid", "substeps"), [(SMOOTH, 1), (CLOSE, 1), (CLOSE, 10)])
def test_the_approach_is_that_of_a_simulation(benzene, grid, substeps):
    approach, retract = simulate_cycle(benzene(), Tip(), grid, substeps=substeps)
    alone = simulate(benzene(), Tip(), grid, substeps=substeps)
    np.testing.assert_allclose(approach.force_z, alone.force_z, rtol=0, atol=1e-6)
    np.testing.assert_allclose(approach.displacement, alone.displacement, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(approach.snapped, alone.snapped)
    np.testing.assert_array_equal(approach.evaluations, alone.evaluations)
    assert np.asarray(approach.converged & retract.converged & alone.converged).all()
    assert retract.displacement.shape == (24, 8, 8, 3)
    # At the lowest height both ways meet.
    np.testing.assert_allclose(retract.force_z[-1], approach.force_z[-1], rtol=0, atol=FORCE)


def test_where_nothing_snaps_the_way_back_is_the_way_in(benzene):
    approach, retract = simulate_cycle(benzene(), Tip(), SMOOTH)
    assert not np.asarray(approach.snapped | retract.snapped).any()
    np.testing.assert_allclose(retract.force_z, approach.force_z, rtol=0, atol=FORCE)
    np.testing.assert_allclose(retract.displacement, approach.displacement, rtol=0, atol=2e-3)
    energy, _ = dissipated_energy(approach.force_z, retract.force_z, SMOOTH.z, Cantilever())
    assert np.abs(energy).max() < ENERGY


def test_where_the_probe_snapped_it_comes_back_another_way_and_loses_energy(benzene):
    approach, retract = simulate_cycle(benzene(), Tip(), CLOSE, substeps=10)
    there, back = forces((approach, retract))
    differ = (np.abs(there - back) > SAME_BRANCH).any(axis=0)
    assert differ.sum() == 4
    np.testing.assert_array_equal(np.asarray(approach.snapped).any(axis=0), differ)
    np.testing.assert_array_equal(np.asarray(retract.snapped).any(axis=0), differ)
    np.testing.assert_allclose(back[:, ~differ], there[:, ~differ], rtol=0, atol=FORCE)

    energy, _ = dissipated_energy(approach.force_z, retract.force_z, CLOSE.z, Cantilever(amplitude=1.5))
    # Measured: 0.0117 eV.
    assert (np.asarray(energy).max(axis=0) > 0.01)[differ].all()
    assert np.abs(energy)[:, ~differ].max() < ENERGY


@pytest.mark.parametrize("levels", [21, 23])
def test_the_way_back_keeps_its_order_whatever_the_number_of_heights(benzene, levels):
    # These are filled up to 24 with the last height, from which the way back begins.
    grid = ScanGrid(AXIS, AXIS, SMOOTH.z[:levels])
    _, retract = simulate_cycle(benzene(), Tip(), grid)
    whole, _ = simulate_cycle(benzene(), Tip(), SMOOTH)
    np.testing.assert_allclose(retract.force_z, whole.force_z[:levels], rtol=0, atol=FORCE)


DEPTH, RADIUS, LENGTH = 0.1, 4.0, 4.0


def pull(r):
    """Force between atom and probe at the distance r, in eV/Å."""
    q = (RADIUS / r) ** 6
    return 12 * DEPTH / r * (q * q - q)


def gradient(r):
    q = (RADIUS / r) ** 6
    return -12 * DEPTH / r**2 * (13 * q * q - 7 * q)


class JumpToContact:
    """A probe on a vertical spring above one atom, which pulls: the only snap that can be written down.

    In equilibrium at the distance r the spring is stretched by pull(r) / k, so the anchor is at
    z(r) = r + R - pull(r) / k; where the pull grows faster than the spring's force, z(r) turns back.
    """

    def __init__(self, stiffness):
        self.k = stiffness / 16.0217662
        self.steepest = minimize_scalar(lambda r: -gradient(r), bounds=(RADIUS, 1.5 * RADIUS), method="bounded").x
        self.tip = Tip("Xe", (0.0, 0.0, LENGTH), (20.0, 20.0, stiffness, 0.0), lennard_jones=(RADIUS / 2, DEPTH))

    def anchor(self, r):
        return r + LENGTH - pull(r) / self.k

    def snaps(self):
        """Heights of the anchor where the outer and the inner minimum are lost; the inner one is higher."""
        return [
            self.anchor(brentq(lambda r: gradient(r) - self.k, *sorted((self.steepest, end))))
            for end in (3 * RADIUS, 0.8 * RADIUS)
        ]

    def force(self, z, outer):
        r_in, r_out = (brentq(lambda r: gradient(r) - self.k, *sorted((self.steepest, e))) for e in (3.2, 12.0))
        r = (
            brentq(lambda r: self.anchor(r) - z, r_out, 20.0)
            if outer
            else brentq(lambda r: self.anchor(r) - z, 2, r_in)
        )
        return pull(r)


# Eleven more atoms do nothing: shapes are those of a benzene.
ADATOM = Atoms(
    np.full(12, 54),
    np.zeros((12, 3), "float32"),
    np.zeros(12, "float32"),
    lennard_jones=np.array([[RADIUS / 2, DEPTH]] + 11 * [[1.0, 0.0]]),
)


@pytest.mark.parametrize("substeps", [1, 8])
@pytest.mark.parametrize("stiffness", [0.3, 0.5, 0.6])
def test_a_jump_to_contact_is_where_it_is_written_down(stiffness, substeps):
    case = JumpToContact(stiffness)
    snap_in, snap_out = case.snaps()
    margin = 0.3 * (snap_out - snap_in)
    z = np.linspace(snap_out + margin, snap_in - margin, 23, dtype="float32")
    approach, retract = simulate_cycle(
        ADATOM, case.tip, ScanGrid(np.zeros(1, "float32"), np.zeros(1, "float32"), z), substeps=substeps
    )
    there, back = (force[:, 0, 0] for force in forces((approach, retract)))
    assert np.asarray(approach.converged & retract.converged).all()
    # The first height after the minimum was lost, on both ways, and no other.
    np.testing.assert_array_equal(np.flatnonzero(approach.snapped[:, 0, 0]), [np.flatnonzero(z < snap_in)[0]])
    np.testing.assert_array_equal(np.flatnonzero(retract.snapped[:, 0, 0]), [np.flatnonzero(z > snap_out)[-1]])
    # Next to a snap the minimum is flat: there float32 leaves more.
    for force, lost in ((there, snap_in), (back, snap_out)):
        expected = np.array([case.force(height, height > lost) for height in z.astype(float)])
        np.testing.assert_allclose(force, expected, rtol=1e-3, atol=1e-4)

    loop = (there - back)[(z > snap_in) & (z < snap_out)]
    assert (loop > 0.01).all()
    area, _ = quad(lambda height: case.force(height, True) - case.force(height, False), snap_in, snap_out)
    energy, _ = dissipated_energy(there, back, z, Cantilever(amplitude=0.999 * np.ptp(z)))
    # The edges of the loop lie somewhere between two heights.
    edge = np.diff(-z).max() * loop.max()
    np.testing.assert_allclose(energy, [area], rtol=0, atol=edge)
    assert area > 5 * edge


@pytest.mark.parametrize("substeps", [1, 8])
def test_a_spring_that_is_stiffer_than_the_pull_never_snaps(substeps):
    case = JumpToContact(1.1 * gradient(JumpToContact(1.0).steepest) * 16.0217662)
    z = np.linspace(10.5, 9.5, 24, dtype="float32")
    approach, retract = simulate_cycle(
        ADATOM, case.tip, ScanGrid(np.zeros(1, "float32"), np.zeros(1, "float32"), z), substeps=substeps
    )
    assert not np.asarray(approach.snapped | retract.snapped).any()
    there, back = forces((approach, retract))
    np.testing.assert_allclose(there, back, rtol=0, atol=FORCE)
    # The probe moves by much more than its anchor at the fastest: it is close to a snap.
    assert np.abs(np.diff(approach.displacement[:, 0, 0, 2])).max() > 3 * np.abs(np.diff(z)).max()
