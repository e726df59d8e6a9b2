"""A recording behind a real server: what a client sees of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import twinscope
from twinscope import ScanFrame
from twinscope.errors import InvalidRequestError, OutOfRangeError, UnknownChannelError
from twinscope.state import TipState


def test_a_recording_is_an_instrument_on_the_network(shared: Path, serve: Callable[..., object]) -> None:
    file = shared / "dtmicroscope" / "PTO_Funakubo0001.h5"
    server = serve("--driver", "replay", "--set", f"file={file}", "--set", "noise={phase = 1.0}")
    with twinscope.connect(server.uri) as scope:
        scope.wait_ready(30)
        can = scope.capabilities()
        assert can.driver == "replay"
        names = [channel.name for channel in can.channels]
        assert len(names) == 4
        recorded = ScanFrame(**can.settings["frames"][0])
        with scope.control(purpose="test"):
            image = scope.scan(frame=recorded, pixels=(256, 256), channels=names).result(30)
            half = ScanFrame(size=(3e-7, 3e-7), center=recorded.center, angle=30.0)
            part = scope.scan(frame=half, pixels=(32, 32), channels=names[:1]).result(30)
            with pytest.raises(OutOfRangeError, match="corner"):
                scope.scan(frame=ScanFrame(size=(2e-6, 2e-6)), pixels=(8, 8), channels=names[:1])
            with pytest.raises(UnknownChannelError):
                scope.scan(frame=half, pixels=(8, 8), channels=["current"])
            scope.withdraw()
            state = scope.state()
            assert state.tip is TipState.WITHDRAWN
            scope.move_to(*half.center)
            with pytest.raises(InvalidRequestError, match="approach"):
                scope.scan(frame=half, pixels=(8, 8), channels=names[:1])
            with pytest.raises(OutOfRangeError, match="z = 1e-07"):
                scope.move_to(z=1e-7)
            assert np.isnan(scope.state().signals[names[0]])
            scope.approach()
            assert np.isfinite(scope.state().signals[names[0]])
        assert image.complete
        values = image[names[0]].values
        assert np.isfinite(values).all()
        assert np.ptp(values) > 1e-8
        assert part[names[0]].values.min() >= values.min() - 1e-15
        assert part[names[0]].values.max() <= values.max() + 1e-15
        assert image.metadata["instrument"]["settings"]["sha256"] == can.settings["sha256"]
