"""The same seed, options and requests give the same bytes."""

import numpy as np
import pytest

from twinscope.conformance.bench import Bench
from twinscope.conformance.factory import DIRECT, PROCESS, BenchFactory
from twinscope.conformance.settings import Subject

CONTRACT = "shared seeds in twinscope.drivers.base.Driver, and docs/drivers.md, 'Chance'"


def everything(bench: Bench) -> list[np.ndarray]:
    """Do a little of everything, and return all data as they are stored."""
    kinds, work = bench.capabilities.acquisitions, bench.work
    data = []
    if "scan" in kinds:
        data.append(bench.acquire(work.scan(channels=work.all_channels, direction="both")))
    x, y = work.offset(0.2, 0.2)
    bench.perform("move_to", x=x, y=y)
    if "path" in kinds:
        data.append(bench.acquire(work.path(channels=work.all_channels, passes=2)))
    if "spectroscopy" in kinds:
        data += [bench.acquire(work.spectroscopy(swept)) for swept in bench.capabilities.sweeps]
    bench.perform("withdraw")
    bench.perform("approach")
    if "scan" in kinds:
        data.append(bench.acquire(work.scan(channels=work.all_channels)))
    return [values.astype("<f4") for values in data]


@pytest.mark.parametrize("ways", [(DIRECT, DIRECT), (DIRECT, PROCESS)], ids="-".join)
def test_two_instances_give_the_same_bytes(subject: Subject, factory: BenchFactory, ways: tuple[str, str]) -> None:
    """A simulator takes all chance from its seed, so two instances give the same data, here and in another process."""
    if not subject.settings.deterministic:
        pytest.skip("[conformance] says that it is not deterministic")
    runs, times = [], []
    for way in ways:
        factory.clear()
        bench = factory.bench(way)
        if not bench.capabilities.simulated:
            pytest.skip("this is a real instrument")
        runs.append(everything(bench))
        times.append(bench.read().time)
    for number, (one, other) in enumerate(zip(*runs, strict=True)):
        differing = int((one.view("<u4") != other.view("<u4")).sum())
        assert differing == 0, (
            f"{differing} of {one.size} values of acquisition {number} differ between two instances with the same"
            " options"
        )
