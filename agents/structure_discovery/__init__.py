"""From a stack of AFM images to a molecule, in the loop (Alldritt et al., Sci. Adv. 6, eaay6913 (2020))."""

import importlib
from typing import TYPE_CHECKING, Any

from twinscope._optional import import_optional

if TYPE_CHECKING:
    from twinscope.agents.structure_discovery.agent import DiscoveryOptions as DiscoveryOptions
    from twinscope.agents.structure_discovery.agent import DiscoveryRecord as DiscoveryRecord
    from twinscope.agents.structure_discovery.agent import StructureDiscoveryAgent as StructureDiscoveryAgent
    from twinscope.agents.structure_discovery.agent.running import run_discovery as run_discovery
    from twinscope.agents.structure_discovery.prediction import Prediction as Prediction
    from twinscope.agents.structure_discovery.predictor import Predictor as Predictor
    from twinscope.agents.structure_discovery.refinement import refine as refine
    from twinscope.agents.structure_discovery.stack import ImageStack as ImageStack
    from twinscope.agents.structure_discovery.structure import Structure as Structure

# Molecules and structures are of use where neither JAX nor flax is installed.
_HERE = "twinscope.agents.structure_discovery"
_HOMES = {
    "agent": ("DiscoveryOptions", "DiscoveryRecord", "StructureDiscoveryAgent"),
    "agent.running": ("run_discovery",),
    "prediction": ("Prediction",),
    "predictor": ("Predictor",),
    "refinement": ("refine",),
    "stack": ("ImageStack",),
    "structure": ("Structure",),
}
_NAMES = {name: home for home, names in _HOMES.items() for name in names}
_PACKAGES = ("jax", "flax", "sklearn")


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_optional("platformdirs", "agents", "structure discovery")
    # Before JAX is: it sets how JAX behaves.
    importlib.import_module("twinscope._jax_setup")
    for package in _PACKAGES:
        import_optional(package, "agents", "structure discovery")
    return getattr(importlib.import_module(f"{_HERE}.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
