"""Stacks: made of scans, whatever their order, and refused when they cannot be stacks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import twinscope
from twinscope.agents.structure_discovery.stack import ImageStack
from twinscope.errors import InvalidRequestError
from twinscope.kernels import Cantilever

GIVEN = ImageStack(
    np.arange(2 * 16 * 20, dtype=float).reshape(2, 16, 20), np.arange(20), np.arange(16), [2.0, 1.0], Cantilever()
)


def test_scans_become_stacks_in_angstrom_from_far_to_near(tmp_path: Path) -> None:
    with twinscope.Microscope(sample="benzene", directory=tmp_path) as scope, scope.control():
        scan = scope.scan(
            frame=twinscope.ScanFrame(size=(8e-10, 6e-10), center=(1e-10, 0)),
            pixels=(20, 16),
            channels=["frequency_shift", "current"],
            heights=[3.6e-10, 3.8e-10, 3.7e-10],
        ).result()
    stack = ImageStack.from_scan(scan)
    np.testing.assert_allclose(stack.z, [3.8, 3.7, 3.6])
    np.testing.assert_array_equal(stack.frequency_shift[2], scan["frequency_shift"].values[0])
    np.testing.assert_allclose(stack.x[[0, -1]], [-3.8 + 1.0, 3.8 + 1.0], atol=1.01)
    assert stack.cantilever == Cantilever(30300.0, 1800.0, 1.0)
    assert stack.tip == "CO"
    gradient = -2 * 1800 * stack.frequency_shift / 30300
    np.testing.assert_allclose(stack.force_gradient, gradient, rtol=1e-6)
    assert ImageStack.from_scan(scan, cantilever=Cantilever(1e6, 5e5, 0.5), tip="Xe").tip == "Xe"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": [1.0, 2.0]}, r"z of the stack is (?s:.*) falling, from far to near"),
        ({"x": np.arange(19)}, r"has the shape \(2, 16, 20\): expected \(2, 16, 19\)"),
        ({"x": -np.arange(20)}, r"x of the stack is (?s:.*) rising"),
        ({"frequency_shift": np.full((2, 16, 20), np.nan)}, "no value that was measured"),
        ({"frequency_shift": np.ones((2, 16, 8)), "x": np.arange(8)}, "8 x 16 pixels .* at least 16 x 16"),
    ],
)
def test_what_is_no_stack_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        replace(GIVEN, **change)


def test_a_scan_with_the_z_controller_on_is_no_stack() -> None:
    class Scan:
        request = twinscope.ScanRequest(
            frame=twinscope.ScanFrame(size=(1e-9, 1e-9)),
            pixels=(16, 16),
            channels=("frequency_shift",),
            z_mode="constant_current",
        )

    with pytest.raises(InvalidRequestError, match="'constant_current': expected constant_height"):
        ImageStack.from_scan(Scan())
