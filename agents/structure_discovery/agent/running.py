"""A whole run, from a microscope to a folder with a report."""

import logging
from pathlib import Path

from twinscope.agents.structure_discovery.agent.agent import StructureDiscoveryAgent
from twinscope.agents.structure_discovery.agent.equipment import OnUpdate, Refiner
from twinscope.agents.structure_discovery.agent.options import DiscoveryOptions
from twinscope.agents.structure_discovery.agent.planning import StackPredictor
from twinscope.agents.structure_discovery.agent.record import DiscoveryRecord
from twinscope.microscope import Microscope

log = logging.getLogger(__name__)

# While the network computes the lease is renewed by another thread, which a busy computer may keep waiting.
_LEASE = 60.0


def run_discovery(
    scope: Microscope,
    predictor: StackPredictor,
    options: DiscoveryOptions | None = None,
    output: str | Path | None = None,
    *,
    refiner: Refiner | None = None,
    on_update: OnUpdate | None = None,
) -> DiscoveryRecord:
    """Take control of a microscope, find molecules, tell what they are, and write a report.

    Parameters
    ----------
    scope
        In this process or behind a server; its control is taken for the run and given back.
    predictor
        Makes molecules of stacks: ``Predictor.shipped()``.
    options
        What is asked for.
    output
        Folder of the report; None for none.
    refiner
        Fits structures to stacks: ``refinement.refine``; None to leave them as predicted.
    on_update
        Called with a prediction while lines arrive.

    Returns
    -------
    DiscoveryRecord
        What was found. An error of the instrument ends the run but is not raised: the record tells.

    Raises
    ------
    LeaseError
        When someone else holds the instrument.
    StoreError
        When the report cannot be written.
    """
    with scope.control(purpose="structure discovery", duration=_LEASE):
        agent = StructureDiscoveryAgent(scope, predictor, options, refiner=refiner, on_update=on_update)
        record = agent.run()
    if output is not None:
        # Pictures are for whoever wants a report.
        from twinscope.agents.structure_discovery.report import write_report

        for path in write_report(record, output):
            log.info("written: %s", path)
    return record
