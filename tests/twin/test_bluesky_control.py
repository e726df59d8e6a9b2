"""Who has the instrument while a plan of bluesky runs, and how its devices are set up."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import pytest
from bluesky import RunEngine
from bluesky.utils import FailedStatus
from ophyd_async.core import NotConnectedError, init_devices

import twinscope
from tests.conftest import until
from tests.twin._bluesky import LONG, REQUEST, SPECTRUM, in_thread, is_free, made
from tests.twin._bluesky import documents as documents
from tests.twin._bluesky import engine as engine
from tests.twin._bluesky import held as held
from tests.twin._bluesky import link as link
from tests.twin._bluesky import microscope as microscope
from twinscope.bluesky import SpmLink, SpmScan, SpmSpectroscopy, SpmStage
from twinscope.bluesky._documents import file_uri
from twinscope.errors import AbortedError, InvalidRequestError, LeaseError, MissingPackageError

# ---------------------------------------------------------------------- control


def test_control_is_had_from_stage_to_unstage_and_shared_by_devices(engine, link) -> None:
    stage = made(SpmStage(link), "stage")
    scan = made(SpmScan(link, REQUEST), "scan")
    held = []

    def look(*_: Any) -> None:
        held.append(link.microscope.state().lease)

    def plan() -> Any:
        yield from bps.stage_all(scan, stage)
        look()
        yield from bps.unstage(scan, wait=True)
        look()
        yield from bps.mv(stage.x, 1e-9)
        yield from bps.unstage(stage, wait=True)
        look()

    engine(plan())
    assert [lease is not None for lease in held] == [True, True, False]
    assert held[0]["purpose"] == "bluesky"
    assert held[0]["number"] == held[1]["number"]


def test_a_plan_that_fails_gives_control_back(engine, link) -> None:
    scan = made(SpmScan(link, REQUEST), "scan")

    @bpp.stage_decorator([scan])
    def plan() -> Any:
        yield from bps.null()
        raise KeyError("a mistake in the plan")

    with pytest.raises(KeyError):
        engine(plan())
    assert is_free(link)


def test_a_trigger_without_stage_is_refused(engine, link) -> None:
    scan = made(SpmScan(link, REQUEST), "scan")
    with pytest.raises(FailedStatus) as failed:
        engine(bps.trigger(scan, wait=True))
    assert isinstance(failed.value.__cause__, LeaseError)
    assert "scan is not staged" in str(failed.value.__cause__)


@pytest.mark.parametrize(("on_lease_loss", "state"), [("abort_and_withdraw", "aborted"), ("continue", "running")])
def test_one_that_loses_control_leaves_the_tip_to_the_server(on_lease_loss, state, engine, held, caplog) -> None:
    link, driver = held
    scan = made(SpmScan(link, LONG, on_lease_loss=on_lease_loss), "scan")
    thread, errors = in_thread(engine, bp.count([scan]))
    until(lambda: driver.is_holding, 10)
    link.microscope.break_control()
    if state == "running":
        engine.abort()
        thread.join()
        assert "could not be aborted" in caplog.text
    else:
        thread.join()
        assert isinstance(errors[0].__cause__, AbortedError)
        assert link.microscope.state().tip == "withdrawn"
    assert link.microscope.current_acquisition().progress().state == state
    assert link.microscope.state().lease is None


# ---------------------------------------------------------------------- configuring


def test_a_request_that_cannot_be_carried_out_changes_nothing(engine, link) -> None:
    scan = made(SpmScan(link, REQUEST), "scan")
    for wrong in (
        {"pixels": (0, 3)},
        {"channels": ["taste"]},
        {"speed": 1},
        {"frame": {"size": (1e-3, 1e-3)}},
        SPECTRUM,
    ):
        with pytest.raises(FailedStatus) as failed:
            engine(bps.prepare(scan, wrong, wait=True))
        assert isinstance(failed.value.__cause__, InvalidRequestError)
    assert scan.request == REQUEST
    with pytest.raises(InvalidRequestError, match="'taste'"):
        SpmScan(link, replace(REQUEST, channels=("taste",)), follow=True)
    with pytest.raises(InvalidRequestError, match="expected a SpectroscopyRequest"):
        SpmSpectroscopy(link, REQUEST)
    with pytest.raises(InvalidRequestError, match="nothing to read"):
        asyncio.run(scan.read())


def test_mocks_leave_the_instrument_alone(engine, link) -> None:
    with init_devices(mock=True):
        stage = SpmStage(link)
        scan = SpmScan(link, REQUEST)
    engine(bps.mv(stage.x, 5e-9))
    assert engine(bps.rd(stage.x)).plan_result == 5e-9
    engine(bps.trigger(stage.withdraw, wait=True))
    with pytest.raises(FailedStatus) as failed:
        engine(bp.count([scan]))
    assert "connected as a mock" in str(failed.value.__cause__)
    state = link.microscope.state()
    assert (state.position.x, state.tip, state.lease) == (0.0, "in_range", None)


@pytest.mark.parametrize(
    ("path", "root_map", "uri"),
    [
        ("/srv/spm/a b.h5", {}, "file://localhost/srv/spm/a%20b.h5"),
        ("/srv/spm/a.h5", {"/srv/spm": "/mnt/lab/"}, "file://localhost/mnt/lab/a.h5"),
        ("/srv/spm2/a.h5", {"/srv/spm": "/mnt/lab"}, "file://localhost/srv/spm2/a.h5"),
        (r"D:\data\a.h5", {}, "file://localhost/D:/data/a.h5"),
        (r"D:\data\x\a.h5", {"D:\\data": "/mnt"}, "file://localhost/mnt/x/a.h5"),
    ],
)
def test_the_folders_of_the_server_are_named_as_the_readers_know_them(path, root_map, uri) -> None:
    assert file_uri(path, root_map) == uri


# ---------------------------------------------------------------------- over the network


@pytest.fixture
def ramp_server(serve: Callable[..., Any]) -> Any:
    root = str(Path(__file__).resolve().parent.parent.parent)
    return serve("--driver", "tests.conftest:RampDriver", PYTHONPATH=root)


def test_of_two_engines_at_a_server_one_has_the_instrument(engine, documents, ramp_server) -> None:
    mine, theirs = SpmLink(ramp_server.uri, purpose="grid"), SpmLink(twinscope.connect(ramp_server.uri))
    stage = made(SpmStage(mine), "stage")
    scan = made(SpmScan(mine, REQUEST, follow=True), "scan")
    other = made(SpmScan(theirs, REQUEST), "other")
    second_engine = RunEngine(context_managers=[])
    tried = threading.Event()

    def plan() -> Any:
        while not tried.is_set():
            yield from bps.sleep(0.01)
        yield from bps.null()

    try:
        thread, errors = in_thread(engine, bpp.stage_wrapper(plan(), [scan, stage]))
        until(lambda: theirs.microscope.state().lease is not None)
        with pytest.raises(FailedStatus) as failed:
            second_engine(bp.count([other]))
        tried.set()
        thread.join()
        assert isinstance(failed.value.__cause__, LeaseError)
        assert "(grid)" in str(failed.value.__cause__)
        assert not errors
        engine(bp.grid_scan([scan], stage.y, 0, 1e-8, 2, stage.x, 0, 1e-8, 2, snake_axes=True))
        assert len(documents.arrays("scan-at_x")) == 4
        second_engine(bp.count([other]))
        assert is_free(mine)
    finally:
        tried.set()
        mine.close()
        theirs.close()


def test_an_instrument_that_does_not_answer_is_not_connected(engine, ramp_server) -> None:
    link = SpmLink(twinscope.Microscope(transport=twinscope.connect(ramp_server.uri)._transport))
    link.microscope._transport._timeout = 0.2
    ramp_server.kill()
    with pytest.raises(NotConnectedError, match="no server answers"):
        made(SpmStage(link), "stage")


# ---------------------------------------------------------------------- the package


def test_nobody_who_does_not_want_it_loads_bluesky() -> None:
    code = "import twinscope, twinscope.microscope, twinscope.bluesky, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "twinscope.bluesky" in loaded
    assert not {"bluesky", "ophyd_async", "event_model"} & set(loaded)


def test_without_the_packages_the_error_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import twinscope.bluesky

    monkeypatch.setitem(sys.modules, "ophyd_async", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'twinscope\[bluesky\]'"):
        twinscope.bluesky.SpmStage  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'SpmLaser'"):
        twinscope.bluesky.SpmLaser  # noqa: B018
