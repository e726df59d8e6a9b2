"""The agent that finds molecules on a surface and measures until it knows what they are."""

from twinscope.agents.structure_discovery.agent.agent import StructureDiscoveryAgent as StructureDiscoveryAgent
from twinscope.agents.structure_discovery.agent.equipment import LiveProgress as LiveProgress
from twinscope.agents.structure_discovery.agent.equipment import Refiner as Refiner
from twinscope.agents.structure_discovery.agent.options import DiscoveryOptions as DiscoveryOptions
from twinscope.agents.structure_discovery.agent.overview import Overview as Overview
from twinscope.agents.structure_discovery.agent.planning import StackPredictor as StackPredictor
from twinscope.agents.structure_discovery.agent.record import DiscoveryRecord as DiscoveryRecord
from twinscope.agents.structure_discovery.agent.record import MoleculeRecord as MoleculeRecord
from twinscope.agents.structure_discovery.agent.running import run_discovery as run_discovery
