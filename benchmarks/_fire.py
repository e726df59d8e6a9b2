"""FIRE, as ppafm's OpenCL code has it, on our forces: what its relaxation does without the error of its grid.

E. Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006). The tip comes down slice by slice; the probe starts where it was,
at rest. The time step and the damping live on from slice to slice, a slice ends after so many steps whether the force
vanished or not, and the force that is kept is the one before the last move. All this is as in its relax.cl.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels import Atoms, ScanGrid, Term, Tip, pair_terms
from twinscope.kernels._spring import Spring

_SLOWER, _FASTER, _DAMPING, _DAMPING_DECAY = 0.5, 1.1, 0.1, 0.99
# What keeps a quotient finite, (eV/Å)².
_SAFE = 1e-8


@dataclass(frozen=True)
class FireSettings:
    """How far a relaxation goes.

    Attributes
    ----------
    longest_step, shortest_step
        Limits of the time step; the first is also the one to begin with.
    converged
        Squared force, in (eV/Å)², that counts as none.
    most_steps
        In one slice.
    """

    longest_step: float = 0.5
    shortest_step: float = 0.05
    converged: float = 1e-8
    most_steps: int = 128


CAREFUL = FireSettings(longest_step=0.2, shortest_step=0.01, converged=1e-16, most_steps=3000)
"""Short steps until the force is gone: for float64 and many slices, to find the branch without Newton."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FireScan:
    """Forces in eV/Å, displacements in Å and numbers of force evaluations; shapes (nz, n[, 3])."""

    force_z: jax.Array
    displacement: jax.Array
    evaluations: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    """n probes on their way to a minimum; vectors have the shape (3, n)."""

    displacement: jax.Array
    velocity: jax.Array
    step: jax.Array
    damping: jax.Array
    pull: jax.Array
    moving: jax.Array
    count: jax.Array


def simulate_with_fire(atoms: Atoms, tip: Tip, grid: ScanGrid, settings: FireSettings | None = None) -> FireScan:
    """Simulate the approach over a grid, in the precision of the atoms; without settings with those of ppafm."""
    dtype = np.asarray(atoms.positions).dtype
    lateral = np.stack(np.meshgrid(grid.x, grid.y)).reshape(2, -1).astype(dtype)
    return _approach(
        pair_terms(atoms, tip), Spring.of(tip, dtype), lateral, np.asarray(grid.z, dtype), settings or FireSettings()
    )


@partial(jax.jit, static_argnames="settings")
def _approach(sample: Term, spring: Spring, lateral: jax.Array, heights: jax.Array, settings: FireSettings) -> FireScan:
    columns = lateral.shape[1]
    nowhere, ones = jnp.zeros((3, columns), lateral.dtype), jnp.ones(columns, lateral.dtype)

    def slice_(state: _State, z: jax.Array) -> tuple[_State, FireScan]:
        anchor = jnp.concatenate([lateral, jnp.full((1, columns), z)]) + spring.rest[:, None]

        def move(state: _State) -> _State:
            return jax.tree.map(
                lambda new, old: jnp.where(state.moving, new, old),
                _moved(sample, spring, anchor, settings, state),
                state,
            )

        begin = _State(
            state.displacement, nowhere, state.step, state.damping, nowhere, ones > 0, jnp.zeros(columns, jnp.int32)
        )
        end = jax.lax.while_loop(lambda state: jnp.any(state.moving), move, begin)
        return end, FireScan(end.pull[2], end.displacement.T, end.count)

    start = _State(
        nowhere,
        nowhere,
        settings.longest_step * ones,
        _DAMPING * ones,
        nowhere,
        ones > 0,
        jnp.zeros(columns, jnp.int32),
    )
    return jax.lax.scan(slice_, start, heights)[1]


def _moved(sample: Term, spring: Spring, anchor: jax.Array, settings: FireSettings, state: _State) -> _State:
    """Evaluate the force and take one step with it."""
    pull, _ = sample.force_and_hessian(anchor + state.displacement)
    held, _ = spring.force_and_hessian(tuple(state.displacement))
    pull = jnp.stack(pull)
    force = pull + jnp.stack(held)
    ff, vv = jnp.sum(force**2, axis=0), jnp.sum(state.velocity**2, axis=0)
    uphill = jnp.sum(state.velocity * force, axis=0) < 0
    along = state.damping * jnp.sqrt(vv / (ff + _SAFE))
    velocity = jnp.where(uphill, 0, (1 - state.damping) * state.velocity + along * force)
    step = jnp.where(
        uphill,
        jnp.maximum(settings.shortest_step, _SLOWER * state.step),
        jnp.minimum(settings.longest_step, _FASTER * state.step),
    )
    velocity = velocity + force * step
    count = state.count + 1
    return _State(
        state.displacement + velocity * step,
        velocity,
        step,
        jnp.where(uphill, _DAMPING, _DAMPING_DECAY * state.damping),
        pull,
        (ff >= settings.converged) & (count < settings.most_steps),
        count,
    )
