"""What a driver says about itself."""

import msgpack
import pytest

from twinscope.capabilities import ACQUISITIONS, FEATURES, Capabilities, Limits
from twinscope.conformance.bench import Direct
from twinscope.conformance.factory import BenchFactory
from twinscope.conformance.settings import Subject
from twinscope.conformance.units import is_si
from twinscope.drivers.base import API_VERSION, CoarseMotor, Driver, Oracle, Pulser, TipExchanger, TipShaper
from twinscope.requests import Z_MODES, setpoint_of

CONTRACT = "twinscope.drivers.base.Driver, twinscope.capabilities.Capabilities, and docs/drivers.md, 'What it can do'"

_FEATURE_METHODS = {
    "coarse_motion": (CoarseMotor, {"coarse_steps": "1"}),
    "pulse": (Pulser, {"pulse_voltage": "V", "pulse_duration": "s"}),
    "tip_shaping": (TipShaper, {"tip_shaping_depth": "m", "tip_shaping_voltage": "V"}),
    "tip_exchange": (TipExchanger, {}),
    "oracle": (Oracle, {}),
}


@pytest.fixture
def capabilities(direct: Direct) -> Capabilities:
    """Return what the open instrument can do."""
    return direct.driver.capabilities()


# ---------------------------------------------------------------------- the class


def test_class_attributes(subject: Subject) -> None:
    """A driver's class tells its name, vendor and summary, and what it provides, as text."""
    cls = subject.cls
    for name in ("name", "vendor", "summary"):
        value = getattr(cls, name)
        assert isinstance(value, str), f"{name} is {value!r}: expected text"
        assert value.strip() == value != "", f"{name} is {value!r}: expected a word or a sentence"
    assert isinstance(cls.provides, tuple), f"provides is {cls.provides!r}: expected a tuple"
    assert all(isinstance(trait, str) for trait in cls.provides), f"provides is {cls.provides!r}: expected texts"
    if ":" not in subject.name:
        assert cls.name == subject.name, f"name is {cls.name!r}: expected {subject.name!r}, that of the entry point"


def test_versions(subject: Subject) -> None:
    """A driver says for which versions of the interface it was written, and this is one of them."""
    low, high = subject.cls.api_versions
    assert low <= API_VERSION <= high


def test_every_method_is_there(subject: Subject) -> None:
    """A driver has every method of the interface."""
    wanted = [name for name, member in vars(Driver).items() if callable(member) and not name.startswith("_")]
    missing = [name for name in wanted if not callable(getattr(subject.cls, name, None))]
    assert not missing, f"the driver has no {', '.join(missing)}"


# ---------------------------------------------------------------------- the capabilities


def test_capabilities_stay_the_same(factory: BenchFactory) -> None:
    """The capabilities are the same before and after opening, as long as the driver is not made anew."""
    driver = factory.driver()
    before = driver.capabilities().to_dict()
    driver.open()
    assert driver.capabilities().to_dict() == before, "capabilities() after open() are not those before"


def test_capabilities_are_plain_data(capabilities: Capabilities) -> None:
    """The capabilities go to clients and into files: their settings are numbers, texts, lists and mappings."""
    try:
        data = msgpack.unpackb(msgpack.packb(capabilities.to_dict()))
    except (TypeError, ValueError, OverflowError) as exc:
        raise AssertionError(f"settings hold something that is no plain data: {exc}") from exc
    assert Capabilities.from_dict(data).traits == capabilities.traits


def test_capabilities_are_provided(subject: Subject, capabilities: Capabilities) -> None:
    """What an instrument can do is announced in `provides`, which listings show."""
    extra = sorted(set(capabilities.traits) - set(subject.cls.provides))
    assert not extra, f"capabilities().traits has {', '.join(extra)}, which is not in `provides`"


def test_words_are_known(capabilities: Capabilities) -> None:
    """Acquisitions, z-modes, sweeps and features are those that there are, each once."""
    for name, known in (
        ("acquisitions", ACQUISITIONS),
        ("scan_modes", Z_MODES),
        ("sweeps", ("z", "bias")),
        ("features", FEATURES),
    ):
        values = getattr(capabilities, name)
        unknown = [value for value in values if value not in known]
        assert not unknown, f"{name} has {unknown}: expected some of {', '.join(known)}"
        assert len(set(values)) == len(values), f"{name} is {values}: expected each once"
    has_lines = {"scan", "path"} & set(capabilities.acquisitions)
    assert capabilities.scan_modes or not has_lines, "scan_modes is empty: a scan or a path needs one"
    assert capabilities.sweeps or "spectroscopy" not in capabilities.acquisitions, "sweeps is empty"


def test_channels_and_signals(capabilities: Capabilities) -> None:
    """Channels and signals have a name of their own, an SI unit without prefix, and words for people."""
    for kind, several in (("channel", capabilities.channels), ("signal", capabilities.signals)):
        names = [one.name for one in several]
        assert len(set(names)) == len(names), f"two {kind}s have the same name: {', '.join(names)}"
        for one in several:
            assert is_si(one.unit), f"the {kind} {one.name} has the unit {one.unit!r}: expected SI without prefix"
            assert one.quantity, f"the {kind} {one.name} has no quantity: say in words what is measured"
    assert capabilities.channels, "there is no channel: nothing could be recorded"


def test_limits(capabilities: Capabilities) -> None:
    """Limits are finite and in order, in the unit of what they limit; x, y and z, in m, always have some."""
    units = dict.fromkeys(("x", "y", "z"), "m") | {"speed": "m/s"}
    units |= {"bias": "V"} if "bias" in capabilities.sweeps else {}
    units |= {signal.name: signal.unit for signal in capabilities.signals}
    for _, needed in _FEATURE_METHODS.values():
        units |= needed
    missing = [name for name in ("x", "y", "z") if name not in capabilities.limits]
    assert not missing, f"there are no limits of {', '.join(missing)}"
    for name, limits in capabilities.limits.items():
        assert name in units, f"there are limits of {name!r}, which is no signal and nothing that can be set"
        _check_limits(name, limits, units[name])


def _check_limits(name: str, limits: Limits, unit: str) -> None:
    assert abs(limits.low) < float("inf"), f"the lower limit of {name} is {limits.low}: expected a finite number"
    assert abs(limits.high) < float("inf"), f"the upper limit of {name} is {limits.high}: expected a finite number"
    assert limits.low < limits.high, f"the limits of {name} are {limits.low} to {limits.high}: low must be below high"
    assert limits.unit == unit, f"the limits of {name} are in {limits.unit!r}: expected {unit!r}"


def test_features_have_what_they_need(subject: Subject, capabilities: Capabilities) -> None:
    """A feature has its method, and limits for what it takes."""
    for feature in capabilities.features:
        protocol, limits = _FEATURE_METHODS[feature]
        for name in (name for name in vars(protocol) if not name.startswith("_")):
            assert callable(getattr(subject.cls, name, None)), f"the feature {feature} needs the method {name}"
        assert feature != "tip_exchange" or capabilities.probes, "the feature tip_exchange needs probes"
        missing = [name for name in limits if name not in capabilities.limits]
        assert not missing, f"the feature {feature} needs limits of {', '.join(missing)}"


def test_setpoints_can_be_set_and_sweeps_have_limits(capabilities: Capabilities) -> None:
    """What the z-controller holds has its setpoint among the settable signals, and what is swept has limits."""
    for mode in capabilities.feedback_modes:
        name = setpoint_of(mode)
        assert name in capabilities.settable, f"the z-mode {mode} needs a signal {name} with limits"
    for swept in capabilities.sweeps:
        assert swept in capabilities.limits, f"{swept} is swept: it needs limits"


def test_largest_acquisition(capabilities: Capabilities) -> None:
    """An instrument says how many bytes one acquisition may have."""
    assert type(capabilities.largest_acquisition) is int
    assert capabilities.largest_acquisition > 0
