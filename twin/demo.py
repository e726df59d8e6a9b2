"""The demonstration: a server in its own process, a client that scans a molecule, an agent that tells what it is."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from twinscope.errors import ConfigurationError, MissingPackageError
from twinscope.microscope import Microscope, connect
from twinscope.plotting import save_picture
from twinscope.requests import ScanFrame

# Heights of the stack, in pm: from just above the molecule's halo to where its bonds are sharp.
_HEIGHTS = np.linspace(450, 360, 10) * 1e-12
_PIXELS = (128, 128)
_SIZE = (2e-9, 2e-9)
_SEARCHED = (3e-9, 3e-9)
_START_TIMEOUT = 30.0


@dataclass
class _Stopwatch:
    """Times of the parts of the demonstration, in s."""

    parts: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.parts[part] = time.perf_counter() - begin


def run(molecule: str, output: Path, size: tuple[float, float] | None = None) -> int:
    """Run the demonstration and return the exit code.

    Parameters
    ----------
    molecule
        Name of a molecule of the library, or a file.
    output
        Folder for the data and the picture.
    size
        Width and height of the frame, in m.
    """
    output.mkdir(parents=True, exist_ok=True)
    clock = _Stopwatch()
    with clock("total"):
        with clock("start the server"):
            server, uri = _start_server(molecule, output)
        try:
            with connect(uri) as scope:
                print(f"connected to a {scope.capabilities().instrument} at {uri}")
                with clock("warm up (compile the kernels)"):
                    scope.wait_ready()
                with scope.control(purpose="demonstration"):
                    with clock("move the tip"):
                        scope.move_to(x=0.4e-9, y=-0.2e-9)
                        scope.move_to(x=0.0, y=0.0, z=float(_HEIGHTS[0]))
                    with clock("scan, live"):
                        acquisition = scope.scan(
                            frame=ScanFrame(size=size or _SIZE),
                            pixels=_PIXELS,
                            channels=["frequency_shift"],
                            heights=_HEIGHTS.tolist(),
                        )
                        for _ in tqdm(acquisition.lines(), total=len(acquisition), unit="line", desc="scan"):
                            pass
                        stack = acquisition.result()
                    with clock("withdraw the tip"):
                        scope.withdraw()
                with clock("find out what it is"):
                    report = _discover(scope, output)
            with clock("draw the picture"):
                picture = save_picture(stack, output / f"{Path(molecule).stem}.png")
        finally:
            with clock("stop the server"):
                code = _stop_server(server)
    for warning in stack.metadata["warnings"]:
        print(f"note: {warning}")
    for part, seconds in clock.parts.items():
        print(f"  {part:<30} {seconds:7.2f} s")
    print(f"data     {acquisition.file}")
    print(f"picture  {picture.resolve()}")
    print(f"report   {report}")
    return code


def _discover(scope: Microscope, output: Path) -> str:
    """Let an agent find the molecule and tell what it is; returns where its report is, or why there is none."""
    from twinscope import _jax_setup

    try:
        _jax_setup.keep_compiled_code()
        from twinscope.agents.structure_discovery import DiscoveryOptions, Predictor, refine, run_discovery
    except MissingPackageError as exc:
        return f"none: {exc}"
    folder = output / f"discovery-{time.strftime('%Y%m%d-%H%M%S')}"
    record = run_discovery(scope, Predictor.shipped(), DiscoveryOptions(size=_SEARCHED), folder, refiner=refine)
    for molecule in record.molecules:
        structure = molecule.structure
        print(f"the agent sees {0 if structure is None else len(structure)} atoms: {molecule.note or molecule.ended}")
    if record.note:
        print(f"the agent ended: {record.note}")
    return str((folder / "report.html").resolve())


def _start_server(molecule: str, output: Path) -> tuple["subprocess.Popen[str]", str]:
    """Start ``twinscope serve`` on a free port and return it with its URI."""
    command = [sys.executable, "-m", "twinscope", "serve", "--sample", molecule, "--port", "0", "--data", str(output)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    assert server.stdout is not None
    for line in server.stdout:
        if line.startswith("at PYRO:"):
            return server, line.removeprefix("at ").split(";")[0]
    server.communicate(timeout=_START_TIMEOUT)
    raise ConfigurationError(f"the server ended with exit code {server.returncode}: it said why above")


def _stop_server(server: "subprocess.Popen[str]") -> int:
    """Ask the server to stop, as Ctrl-C would, and return its exit code."""
    server.send_signal(signal.SIGINT)
    try:
        server.communicate(timeout=_START_TIMEOUT)
    except subprocess.TimeoutExpired:
        server.kill()
        server.communicate()
    return server.returncode
