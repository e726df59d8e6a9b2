"""Work that is spread over several devices; run as a program, this file computes on as many as it is told."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from twinscope.kernels import Atoms, Plane, ScanGrid, Tip, relax_columns, simulate_batch, simulate_cycle

DEVICES = 3
HEIGHTS = np.linspace(8.0, 6.0, 24, dtype="float32")
AXIS = np.linspace(-3, 3, 8, dtype="float32")
GRID = ScanGrid(AXIS, AXIS, HEIGHTS)
# Four tiles of columns for three devices, the last of which is not full.
MANY = np.random.default_rng(9).uniform(-5, 5, (4 * 4096 - 100, 2)).astype("float32")
CO = Tip()
RIGID = Tip(rigid=True)


def molecule(shift=0.0):
    """Return a ring of carbon with hydrogen on it."""
    angles = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angles) + shift, np.sin(angles), 0 * angles - shift / 2], axis=-1)
    positions = np.concatenate([1.39 * ring, 2.48 * ring])
    return Atoms(np.repeat([6, 1], 6), positions.astype("float32"), np.repeat([-0.12, 0.12], 6).astype("float32"))


def batch(count):
    """As many simulations as there are tiles, each of its own molecule."""
    return simulate_batch([molecule(0.3 * number) for number in range(count)], RIGID, GRID)


def results():
    """Forces of what is spread in different ways."""
    gold = Plane.of("Au", 0.059, -3.0, "O")
    return {
        # Fewer tiles than devices, as many, and numbers that are no multiple.
        **{f"batch of {count}": batch(count).force_z for count in (1, 2, 3, 4, 7)},
        "shared": relax_columns(molecule(), RIGID, MANY, HEIGHTS, gold).force_z,
        "per tile": relax_columns(molecule(), RIGID, MANY, HEIGHTS, gold, reach=4.0).force_z,
        "both ways": simulate_cycle(molecule(), RIGID, GRID)[1].force_z,
    }


def relaxed():
    """Forces and more of a probe that moves."""
    columns = relax_columns(molecule(), CO, MANY, HEIGHTS)
    return {"force": columns.force_z, "displacement": columns.displacement, "converged": columns.converged}


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    """Results of a process that has several devices."""
    path = tmp_path_factory.mktemp("devices") / "results.npz"
    done = subprocess.run([sys.executable, __file__, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(DEVICES)]
    with np.load(path) as file:
        return dict(file)


def test_on_several_devices_it_is_the_same(spread):
    alone = results()
    assert set(alone) < set(spread)
    for name, expected in alone.items():
        assert spread[name].shape == expected.shape, name
        assert np.ptp(expected) > 0.03, name
        np.testing.assert_allclose(spread[name], expected, rtol=0, atol=5e-6, err_msg=name)


def test_a_probe_that_moves_does_so_on_every_device(spread):
    # Some columns of every tile.
    some = np.linspace(0, len(MANY) - 1, 60).astype(int)
    columns = relax_columns(molecule(), CO, MANY[some], HEIGHTS)
    assert spread["converged"].all()
    assert spread["displacement"].shape == (24, len(MANY), 3)
    # Which slices are interpolated depends on the columns of a tile; that is right to 1e-5 eV/Å.
    np.testing.assert_allclose(spread["force"][:, some], columns.force_z, rtol=0, atol=2e-5)
    np.testing.assert_allclose(spread["displacement"][:, some], columns.displacement, rtol=0, atol=2e-3)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", DEVICES)
    jax.config.update("jax_platforms", "cpu")
    print(len(jax.local_devices()))  # noqa: T201
    np.savez(sys.argv[1], **results(), **relaxed())
