"""What a small change of the sample does to the force gradient, with the probe where it is."""

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels import COULOMB, Atoms, PairSites, Tip, lennard_jones_coefficients

# Sites and columns that are computed together, so that all molecules share one compilation.
_BUCKET = 16
_COLUMNS = 256
# What fills a list of sites up stands here, in Å.
_NOWHERE = (0.0, 0.0, -1000.0)


def sites(
    numbers: np.ndarray, positions: np.ndarray, amounts: np.ndarray, tip: Tip, charges: np.ndarray | None = None
) -> PairSites:
    """Return the energies of the probe with so much of atoms (n,) at positions (n, 3).

    `charges` are those of the atoms times that of the tip, in e², shape (n,); None for no charges. The list is filled
    up to one of few lengths, so that it is compiled seldom.
    """
    count = len(positions)
    missing = -count % _BUCKET
    c6, c12 = np.zeros(count), np.zeros(count)
    if count:
        c6, c12 = lennard_jones_coefficients(Atoms(numbers, np.zeros((count, 3))), tip)
    coulomb = COULOMB * (np.zeros(count) if charges is None else charges)
    six, twelve, one = (
        np.pad(values, (0, missing)).astype(np.float32) for values in (c6 * amounts, c12 * amounts, coulomb)
    )
    everywhere = np.concatenate([positions, np.broadcast_to(_NOWHERE, (missing, 3))]).astype(np.float32)
    return PairSites(everywhere, six, twelve, one)


def response(acting: PairSites, probe: np.ndarray, lever: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Change of the force gradient, in N/m, that each site makes, shape (sites, nz, n).

    Parameters
    ----------
    acting
        Sites weak enough for the probe to follow in proportion.
    probe, lever
        As in :class:`~twinscope.kernels.Sensitivity`, shape (3, levels, n).
    weights
        From forces in eV/Å to force gradients in N/m, shape (nz, levels).
    """
    count = probe.shape[-1]
    filled = ((0, 0), (0, 0), (0, -count % _COLUMNS))
    columns = [np.pad(values, filled, mode="edge") for values in (probe, lever)]
    blocks = [
        _response(
            jax.tree.map(lambda values, start=start: values[start : start + _BUCKET], acting),
            *columns,
            weights.astype(np.float32),
        )
        for start in range(0, len(acting.positions), _BUCKET)
    ]
    return np.concatenate(blocks)[..., :count] if blocks else np.zeros((0, len(weights), count), np.float32)


@jax.jit
def _response(acting: PairSites, probe: jax.Array, lever: jax.Array, weights: jax.Array) -> jax.Array:
    def of_one(site: PairSites) -> jax.Array:
        alone = jax.tree.map(lambda values: values[None], site)
        force, _ = alone.force_and_hessian(probe.reshape(3, -1))
        along = sum(f * a for f, a in zip(force, lever.reshape(3, -1), strict=True))
        return jnp.matmul(weights, along.reshape(probe.shape[1:]), precision=jax.lax.Precision.HIGHEST)

    return jax.lax.map(of_one, acting)
