"""Structures are moved until their simulated images are the measured ones."""

from twinscope.agents.structure_discovery.refinement.maps import maps_of as maps_of
from twinscope.agents.structure_discovery.refinement.options import RefinementOptions as RefinementOptions
from twinscope.agents.structure_discovery.refinement.refine import refine as refine
from twinscope.agents.structure_discovery.refinement.refined import Refined as Refined
from twinscope.agents.structure_discovery.refinement.refined import Step as Step
