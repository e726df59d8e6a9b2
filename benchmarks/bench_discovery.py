"""How good structure discovery is: ours and the published weights on the same images of molecules that neither saw."""

import argparse
from collections.abc import Callable
from pathlib import Path

from _cases import set_up
from _discovery_atoms import report_atoms, report_foreign
from _discovery_bench import Bench
from _discovery_maps import (
    report_electrostatics,
    report_large,
    report_maps,
    report_robustness,
    report_slices,
    report_speed,
    report_uncertainty,
)
from _discovery_models import Ours, Published
from _report import Report

from twinscope.agents.structure_discovery.predictor import Predictor
from twinscope.errors import ConfigurationError

_SHARED = Path(__file__).resolve().parents[2] / "shared"
_PARTS: dict[str, Callable[[Bench], None]] = {
    "maps": report_maps,
    "large": report_large,
    "robustness": report_robustness,
    "atoms": report_atoms,
    "electrostatics": report_electrostatics,
    "uncertainty": report_uncertainty,
    "slices": report_slices,
    "speed": report_speed,
    "foreign": report_foreign,
}


def main() -> None:
    """Measure and report."""
    options = _options()
    set_up(keep_compiled=True)
    report = Report("Structure discovery on simulated images")
    bench = Bench(
        report,
        _published(options.published, report),
        _ours(options.weights, report),
        options.count,
        options.seed,
        options.refine,
        options.foreign,
    )
    if not bench.models:
        raise SystemExit("; ".join(report.notes))
    try:
        for name in options.parts:
            _PARTS[name](bench)
    finally:
        # What was measured in many minutes is not lost with a part that fails.
        report.finish(options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--count", type=int, default=200, help="molecules of the test set (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of orientations and noise (%(default)s)")
    parser.add_argument("--refine", type=int, default=0, metavar="N", help="refine the structures of N molecules")
    parser.add_argument("--parts", type=_parts, default=list(_PARTS), help=f"some of {','.join(_PARTS)} (all)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of ours, instead of those of the package")
    parser.add_argument("--published", type=Path, metavar="FILE", default=_SHARED / "asd/model_light.h5")
    parser.add_argument(
        "--foreign", type=Path, metavar="FILE", default=_SHARED / "real/edafm_simulated/edafm_ppafm_stacks.h5"
    )
    return parser.parse_args()


def _parts(text: str) -> list[str]:
    chosen = text.split(",")
    unknown = [name for name in chosen if name not in _PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; expected some of {', '.join(_PARTS)}")
    return chosen


def _published(path: Path, report: Report) -> Published | None:
    if path.exists():
        return Published(path)
    report.notes.append(f"no published weights: {path} is not there; get it from SINGROUP/ASD-AFM, --published FILE")
    return None


def _ours(path: Path | None, report: Report) -> Ours | None:
    try:
        return Ours(Predictor.from_file(path) if path else Predictor.shipped())
    except ConfigurationError as exc:
        report.notes.append(f"none of our weights: {exc}")
        return None


if __name__ == "__main__":
    main()
