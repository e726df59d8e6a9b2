"""Things at their places on a surface."""

from dataclasses import dataclass

import numpy as np

from twinscope.drivers.simulator.species import Species

# The ids of what is no molecule begin so.
DIRT = "dirt"


@dataclass(frozen=True, eq=False)
class Placement:
    """One molecule, adatom or clump.

    Attributes
    ----------
    id
        Of this one, the same whenever the world is made.
    species
        What it is.
    x, y
        Å, of the middle of its lateral extent.
    ground
        Height (Å) of the atoms of a flat molecule on its terrace.
    pose
        How it is turned.
    """

    id: str
    species: Species
    x: float
    y: float
    ground: float
    pose: "Pose"

    @property
    def is_dirt(self) -> bool:
        """Whether it is none of the molecules that were asked for."""
        return self.id.startswith(DIRT)

    @property
    def kind(self) -> str:
        """Name of the species."""
        return self.species.name

    @property
    def radius(self) -> float:
        """Of the circle around all its atoms, in Å."""
        return self.species.radius

    @property
    def z(self) -> float:
        """Height of its lowest atom, in Å."""
        return self.ground + self.species.altitude

    @property
    def positions(self) -> np.ndarray:
        """Of its atoms, in Å, shape (n, 3)."""
        turned: np.ndarray = self.species.positions @ self.pose.rotation.T
        turned[:, 2] -= turned[:, 2].min()
        turned += self.x, self.y, self.z
        return turned


@dataclass(frozen=True)
class Pose:
    """A way to lie: turned over, then tilted, then turned in the plane.

    Attributes
    ----------
    angle
        In the plane, counter-clockwise, in radians.
    tilt
        About an axis in the plane of the molecule, in radians.
    tilt_axis
        Angle of that axis from the molecule's x, in radians.
    flipped
        Whether it lies on its other side.
    """

    angle: float
    tilt: float = 0.0
    tilt_axis: float = 0.0
    flipped: bool = False

    @property
    def rotation(self) -> np.ndarray:
        """Matrix (3, 3) that turns columns."""
        over = np.diag([1.0, -1.0, -1.0]) if self.flipped else np.eye(3)
        axis = _about_z(self.tilt_axis)
        cosine, sine = np.cos(self.tilt), np.sin(self.tilt)
        about_x = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
        rotation: np.ndarray = _about_z(self.angle) @ axis @ about_x @ axis.T @ over
        return rotation


def _about_z(angle: float) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
