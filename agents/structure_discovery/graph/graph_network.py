"""A small message-passing network that makes elements, bonds and positions of found atoms fit together.

Atoms are nodes, pairs within 3 Å are edges, as in the networks of Oinonen et al., MRS Bull. 47, 895 (2022). Only
distances and differences of heights enter, so that turning the image or moving it changes nothing; positions are
corrected along the edges, as in Satorras, Hoogeboom and Welling, ICML (2021).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from twinscope.agents.structure_discovery.structure import ELEMENTS

REACH = 3.0
"""Å: atoms farther apart do not talk to each other."""

NEIGHBOURS = 12
"""The nearest ones that an atom listens to."""

BOND_CLASSES: tuple[float, ...] = (0.0, 1.0, 1.5, 2.0, 3.0)
"""Orders of the bonds that the network tells apart; zero is none."""

_ROUNDS = 4
_WIDTH = 48
_DISTANCES = 20  # Gaussians that a distance is written in
_LEAST_LOG = -8.0
_USUAL_ERROR = 0.08  # Å, of what is left along each axis
_FAR = 1e3


class GraphInput(NamedTuple):
    """Atoms as they were found, padded.

    Attributes
    ----------
    log_probabilities
        Logarithms of the element probabilities, shape (b, n, len(ELEMENTS)).
    positions
        Å, shape (b, n, 3).
    heights
        Of the peaks, shape (b, n).
    present
        False for padding, shape (b, n).
    """

    log_probabilities: jax.Array | np.ndarray
    positions: jax.Array | np.ndarray
    heights: jax.Array | np.ndarray
    present: jax.Array | np.ndarray


class GraphOutput(NamedTuple):
    """What the network makes of them.

    Attributes
    ----------
    elements
        Logits, shape (b, n, len(ELEMENTS)).
    reality
        Logit that there is an atom at all, shape (b, n).
    corrections
        Å, to be added to the positions, shape (b, n, 3).
    log_sigma
        Logarithm of the standard deviation of what is then left, in the plane (each of x and y) and along z, in Å,
        shape (b, n, 2).
    neighbours
        Indices of the other end of each edge, shape (b, n, k).
    near
        False where there is no edge, shape (b, n, k).
    bonds
        Logits of :data:`BOND_CLASSES` for each edge, shape (b, n, k, 5); the same both ways.
    """

    elements: jax.Array
    reality: jax.Array
    corrections: jax.Array
    log_sigma: jax.Array
    neighbours: jax.Array
    near: jax.Array
    bonds: jax.Array


class _Round(nnx.Module):
    """One exchange of messages."""

    def __init__(self, edge_width: int, rngs: nnx.Rngs) -> None:
        self.own = nnx.Linear(_WIDTH, _WIDTH, rngs=rngs)
        self.other = nnx.Linear(_WIDTH, _WIDTH, use_bias=False, rngs=rngs)
        self.edge = nnx.Linear(edge_width, _WIDTH, use_bias=False, rngs=rngs)
        self.message = nnx.Linear(_WIDTH, _WIDTH, rngs=rngs)
        self.update_in = nnx.Linear(2 * _WIDTH, _WIDTH, rngs=rngs)
        self.update_out = nnx.Linear(_WIDTH, _WIDTH, rngs=rngs)
        self.norm = nnx.LayerNorm(_WIDTH, rngs=rngs)

    def __call__(
        self, nodes: jax.Array, edges: jax.Array, neighbours: jax.Array, weights: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the new nodes (b, n, width) and the messages (b, n, k, width)."""
        said = nnx.silu(self.own(nodes)[:, :, None] + _gathered(self.other(nodes), neighbours) + self.edge(edges))
        said = nnx.silu(self.message(said)) * weights[..., None]
        heard = jnp.concatenate([nodes, said.sum(axis=2)], axis=-1)
        return self.norm(nodes + self.update_out(nnx.silu(self.update_in(heard)))), said


class GraphNetwork(nnx.Module):
    """See the module.

    Parameters
    ----------
    rngs
        For the first weights.
    """

    def __init__(self, rngs: nnx.Rngs) -> None:
        edge_width = _DISTANCES + 1
        self.embed = nnx.Linear(len(ELEMENTS) + 2, _WIDTH, rngs=rngs)
        self.rounds = nnx.List([_Round(edge_width, rngs) for _ in range(_ROUNDS)])
        self.atom = nnx.Linear(_WIDTH, len(ELEMENTS) + 3, rngs=rngs)
        self.shift = nnx.Linear(_WIDTH, 2, kernel_init=nnx.initializers.zeros, rngs=rngs)
        self.pair = nnx.Linear(2 * _WIDTH + edge_width, _WIDTH, rngs=rngs)
        self.bond = nnx.Linear(_WIDTH, len(BOND_CLASSES), rngs=rngs)

    def __call__(self, atoms: GraphInput) -> GraphOutput:
        """Improve what was found."""
        positions = jnp.where(atoms.present[..., None], atoms.positions, _FAR)
        neighbours, near = _nearest(positions)
        ways = _gathered(positions, neighbours) - positions[:, :, None]
        distances = jnp.sqrt(jnp.sum(ways**2, axis=-1) + 1e-9)
        # Fades out towards the reach, so that no atom comes in with a jump.
        weights = jnp.where(near, 0.5 + 0.5 * jnp.cos(jnp.pi * jnp.minimum(distances / REACH, 1.0)), 0.0)
        edges = _edge_features(distances, ways[..., 2])
        seen = jnp.maximum(atoms.log_probabilities, _LEAST_LOG)
        depths = jnp.where(atoms.present, atoms.positions[..., 2], 0.0)[..., None]
        nodes = self.embed(jnp.concatenate([seen / 4, depths, jnp.asarray(atoms.heights)[..., None]], axis=-1))
        messages = jnp.zeros((*distances.shape, _WIDTH))
        for exchange in self.rounds:
            nodes, messages = exchange(nodes, edges, neighbours, weights)
        told = self.atom(nodes)
        pull = self.shift(messages)
        along = jnp.stack([pull[..., 0], pull[..., 0], pull[..., 1]], axis=-1)
        corrections = jnp.sum(along * ways * (weights / distances)[..., None], axis=2)
        other = _gathered(nodes, neighbours)
        own = nodes[:, :, None]
        both = jnp.concatenate([own + other, own * other, _symmetric(edges)], axis=-1)
        return GraphOutput(
            elements=told[..., :-3] + seen,
            reality=told[..., -3] + 3.0,
            corrections=corrections,
            log_sigma=told[..., -2:] + jnp.log(_USUAL_ERROR),
            neighbours=neighbours,
            near=near,
            bonds=self.bond(nnx.silu(self.pair(both))),
        )


def _gathered(values: jax.Array, neighbours: jax.Array) -> jax.Array:
    """Values (b, n, width) of the neighbours (b, n, k): shape (b, n, k, width)."""
    return jax.vmap(lambda rows, indices: rows[indices])(values, neighbours)


def _nearest(positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Find the nearest atoms of each, and tell whether they are within reach: shapes (b, n, k)."""
    squares = jnp.sum((positions[:, :, None] - positions[:, None]) ** 2, axis=-1)
    squares = squares + jnp.where(jnp.eye(positions.shape[1], dtype=bool), jnp.inf, 0.0)
    # Padding lies at one place far away: it shall not be its own neighbour.
    squares = jnp.where(positions[:, :, None, 0] >= _FAR, jnp.inf, squares)
    negative, neighbours = jax.lax.top_k(-squares, min(NEIGHBOURS, positions.shape[1]))
    return neighbours, negative > -(REACH**2)


def _edge_features(distances: jax.Array, rises: jax.Array) -> jax.Array:
    centres = jnp.linspace(0.8, REACH, _DISTANCES)
    written = jnp.exp(-(((distances[..., None] - centres) / 0.12) ** 2))
    rises = jnp.where(jnp.abs(rises) < REACH, rises, 0.0)
    return jnp.concatenate([written, rises[..., None]], axis=-1)


def _symmetric(edges: jax.Array) -> jax.Array:
    """Return what is the same from either end: the rise without its sign."""
    return edges.at[..., _DISTANCES].set(jnp.abs(edges[..., _DISTANCES]))
