"""What can be imported, how light the client is, and what crosses the wire."""

import subprocess
import sys
from dataclasses import make_dataclass
from pathlib import Path

import pytest

import twinscope
from twinscope import errors
from twinscope.capabilities import Capabilities, Channel, Limits
from twinscope.drivers import registry
from twinscope.drivers.options import DriverOptions
from twinscope.errors import ConfigurationError, MissingPackageError, TwinscopeError
from twinscope.service import Service

ROOT = Path(__file__).resolve().parent.parent.parent


def modules_after(program: str) -> set[str]:
    code = f"{program}\nimport sys; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ended.stdout.split())


def test_every_exported_name_exists_and_is_listed() -> None:
    for name in twinscope.__all__:
        assert getattr(twinscope, name) is not None
    assert set(twinscope.__all__) <= set(dir(twinscope))
    with pytest.raises(AttributeError, match="'telescope'"):
        twinscope.telescope  # noqa: B018


@pytest.mark.parametrize(
    "program",
    [
        "import twinscope",
        "import twinscope.microscope, twinscope.network.remote, twinscope.results, twinscope.storage.store",
        "import twinscope.cli; twinscope.cli._parser()",
    ],
)
def test_a_client_loads_nothing_heavy(program: str) -> None:
    loaded = modules_after(program)
    assert not loaded & {"jax", "ase", "scipy", "flax", "sklearn", "matplotlib", "sidpy", "xarray"}


def test_a_client_loads_no_part_of_the_server() -> None:
    loaded = modules_after("import twinscope, twinscope.network.remote; twinscope.Microscope(transport=object())")
    assert not loaded & {"h5py", "twinscope.instrument", "twinscope.network.server", "twinscope.drivers"}


def test_the_help_of_the_command_line_waits_for_no_package() -> None:
    loaded = modules_after("import twinscope.cli; twinscope.cli._parser()")
    assert not loaded & {"numpy", "h5py", "Pyro5", "cryptography"}


def test_the_bare_folder_names_are_not_imported() -> None:
    assert not set(sys.modules) & {"twin", "drivers", "kernels", "agents"}


def test_every_module_is_in_the_distribution() -> None:
    """A forgotten package works in an editable install and is missing from the wheel."""
    from setuptools import find_packages

    found = {f"twinscope.{name}" for part in ("drivers", "agents", "kernels") for name in _packages(ROOT / part, part)}
    listed = {f"twinscope.{name}" for name in find_packages(str(ROOT)) if name.split(".")[0] != "tests"}
    assert found <= listed


def _packages(folder: Path, name: str) -> list[str]:
    inside = [p for p in folder.iterdir() if p.is_dir() and p.name != "__pycache__"]
    assert (folder / "__init__.py").exists(), f"{folder} has no __init__.py"
    return [name, *(package for p in inside for package in _packages(p, f"{name}.{p.name}"))]


def test_every_error_survives_the_wire() -> None:
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, TwinscopeError)]
    assert len(classes) > 12
    codes = set()
    for cls in classes:
        copy = TwinscopeError.from_dict(cls("what was wrong", value=7).to_dict())
        assert type(copy) is cls
        assert str(copy) == "what was wrong"
        assert copy.details == {"value": 7}
        codes.add(cls.code)
        assert cls.__name__ in (errors.__doc__ or "")
    assert len(codes) == len(classes)


def test_an_error_of_a_newer_server_is_still_an_error() -> None:
    assert type(TwinscopeError.from_dict({"code": "novel", "message": "m"})) is TwinscopeError


def test_every_verb_is_documented() -> None:
    assert len(Service.verbs()) > 10
    for name in Service.verbs():
        assert getattr(Service, name).__doc__


def test_a_channel_may_not_be_named_like_an_axis() -> None:
    for name in ("x", "height", "not a name"):
        with pytest.raises(ConfigurationError, match=name):
            Channel(name, "m", "")


def test_capabilities_survive_the_wire() -> None:
    import msgpack

    capabilities = Capabilities(
        "i", "d", "1", True, (Channel("a", "m", "A"),), {"x": Limits(0, 1, "m")}, ("m",), ("z",), 9, {"k": [1]}
    )
    assert Capabilities.from_dict(msgpack.unpackb(msgpack.packb(capabilities.to_dict()))) == capabilities


# ---------------------------------------------------------------------- drivers by entry point


class _Entry:
    """An entry point that is not installed."""

    def __init__(self, name: str, loaded: object) -> None:
        self.name, self.module, self.value, self.dist = name, "somewhere", f"somewhere:{name}", None
        self._loaded = loaded

    def load(self) -> object:
        if isinstance(self._loaded, BaseException):
            raise self._loaded
        return self._loaded


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch):
    def install(**loaded: object) -> None:
        monkeypatch.setattr(registry, "entry_points", lambda group: [_Entry(*item) for item in loaded.items()])

    return install


def test_a_broken_driver_is_listed_with_its_error_and_stops_nothing(entries, ramp_driver) -> None:
    options = make_dataclass("Options", [("host", "Nowhere")], bases=(DriverOptions,), frozen=True)
    entries(
        ramp=ramp_driver,
        broken=RuntimeError("bad licence"),
        needy=ModuleNotFoundError("no", name="vendorlib"),
        wrong=dict,
        old=type("Old", (ramp_driver,), {"api_versions": (0, 0)}),
        unsure=type("Unsure", (ramp_driver,), {"api_versions": "1"}),
        loose=type("Loose", (ramp_driver,), {"options_type": dict}),
        leaving=SystemExit("no licence"),
        mute=type("Mute", (ramp_driver,), {"provides": None}),
        vague=type("Vague", (ramp_driver,), {"options_type": options}),
    )
    listed = {info.name: info for info in registry.installed()}
    assert listed["ramp"].error is None
    assert "bad licence" in listed["broken"].error
    assert "vendorlib" in listed["needy"].error
    assert "not a driver" in listed["wrong"].error
    assert "versions 0 to 0 of the driver interface, this is 1: install a newer" in listed["old"].error
    assert "api_versions = '1'" in listed["unsure"].error
    assert "expected a DriverOptions" in listed["loose"].error
    assert "no licence" in listed["leaving"].error
    assert "expected a tuple of text" in listed["mute"].error
    assert "'Nowhere' is not defined" in listed["vague"].error
    assert registry.create("ramp").name == "ramp"
    with pytest.raises(ConfigurationError, match="bad licence"):
        registry.create("broken")
    with pytest.raises(MissingPackageError, match="vendorlib"):
        registry.create("needy")
    with pytest.raises(ConfigurationError, match=r"'tunnel'.*broken, leaving, loose, mute, needy, old, ramp"):
        registry.create("tunnel")


def test_two_drivers_of_one_name_are_told_apart_by_their_places(monkeypatch: pytest.MonkeyPatch, ramp_driver) -> None:
    both = [_Entry("ramp", ramp_driver), _Entry("ramp", ramp_driver)]
    both[1].value = "elsewhere:Ramp"
    monkeypatch.setattr(registry, "entry_points", lambda group: both)
    with pytest.raises(
        ConfigurationError, match=r"several packages have a driver 'ramp'.*elsewhere:Ramp, somewhere:ramp"
    ):
        registry.load("ramp")


def test_a_missing_optional_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    from twinscope._optional import import_optional

    with pytest.raises(MissingPackageError, match=r"pip install 'twinscope\[plot\]'"):
        import_optional("no_such_package_anywhere", "plot")
