"""How long images take that a perfect and an imperfect microscope scan, beside the kernels alone and real time."""

from functools import partial

import numpy as np
from _cases import set_up
from _report import Figure, Report, arguments, duration, interleaved_costs

from twinscope.drivers.simulator import Simulator
from twinscope.drivers.simulator.imaging import Imaging
from twinscope.drivers.simulator.sample import load_sample
from twinscope.kernels import Cantilever, Tip
from twinscope.requests import ScanFrame, ScanRequest

_ROUNDS = 3
_PIXELS = 256
_HEIGHT = 3.6e-10
_FRAME = ScanFrame(size=(3e-9, 3e-9))
_LINE_TIME = 1.0
_MODES = {
    "clean, constant height": ("clean", {"heights": (_HEIGHT,)}),
    "low_temperature, constant height": ("low_temperature", {"heights": (_HEIGHT,)}),
    "low_temperature, constant current": ("low_temperature", {"z_mode": "constant_current"}),
}


class _Discard:
    """A sink that keeps nothing."""

    def write(self, first: int, traces: np.ndarray) -> None:
        """Take traces."""

    def warn(self, message: str) -> None:
        """Take a sentence."""


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    set_up()
    report = Report(f"Realism: images of {_PIXELS} x {_PIXELS} pixels over PTCDA on gold, {_LINE_TIME:g} s per line")
    drivers = {name: Simulator(sample="ptcda", surface="Au", realism=realism) for name, (realism, _) in _MODES.items()}
    actions = [partial(image, drivers[name], more) for name, (_, more) in _MODES.items()]
    for name, action in zip(_MODES, actions, strict=True):
        report.add(f"{name}: first image (compiles)", Figure((duration(action),)))
    costs = interleaved_costs([*actions, kernels], _ROUNDS)
    for name, cost in zip(_MODES, costs, strict=False):
        report.add(name, cost.wall, peer=("the kernels alone", costs[-1].wall))
    began = drivers["clean, constant height"].read().time
    actions[0]()
    physical = drivers["clean, constant height"].read().time - began
    report.notes.append(f"instrument time of an image: {physical:.0f} s; the clock is accelerated")
    report.finish(options.json)


def image(driver: Simulator, more: dict[str, object]) -> None:
    """Scan an image."""
    request = ScanRequest.from_dict(
        {
            "frame": _FRAME,
            "pixels": (_PIXELS, _PIXELS),
            "channels": ("frequency_shift", "current", "z"),
            "line_time": _LINE_TIME,
        }
        | more
    )
    driver.start_scan(request, _Discard())
    while driver.poll():
        pass


def kernels() -> None:
    """Compute the frequency shift of the same image at one height."""
    along, across = ScanRequest(frame=_FRAME, pixels=(_PIXELS, _PIXELS), channels=("z",)).offsets()
    x, y = np.meshgrid(along, across)
    positions = np.stack([x.ravel(), y.ravel()], axis=-1)
    imaging = Imaging(load_sample("ptcda", Tip(), surface="Au"), Tip(), Cantilever())
    imaging.measure(positions, np.array([_HEIGHT]), ("frequency_shift",))


if __name__ == "__main__":
    main()
