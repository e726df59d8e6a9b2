"""The key folder: what is made, what is stored, and who is let in for it."""

import json
import ssl
import stat
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinscope import cli
from twinscope.errors import AuthenticationError, ConfigurationError
from twinscope.network._authentication import SHARED, Authenticator
from twinscope.network._tls import ClientKeys, server_context
from twinscope.network.keys import KeyFolder
from twinscope.sessions import Identity, Role


def run(*arguments: str, keys: Path) -> int:
    return cli.main(["keys", *arguments, "--keys", str(keys)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert run("init", "--host", "afm.lab.example", "--host", "10.1.2.3", keys=tmp_path / "k") == 0
    return tmp_path / "k"


def identified(authenticator: Authenticator, token: object = None, certificate: object = None) -> Identity:
    return authenticator.identify(token, certificate, "10.0.0.1")


def shown(certificate: x509.Certificate) -> dict[str, object]:
    """Return a certificate as the module ssl shows it."""
    names = {NameOID.COMMON_NAME: "commonName", NameOID.ORGANIZATIONAL_UNIT_NAME: "organizationalUnitName"}
    subject = tuple(((names[attribute.oid], attribute.value),) for attribute in certificate.subject)
    return {"subject": subject, "serialNumber": f"{certificate.serial_number:X}"}


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


# ---------------------------------------------------------------------- what is made


def test_secrets_can_be_read_by_their_owner_only(folder: Path) -> None:
    run("client", "alice", "--role", "operator", keys=folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"ca.key", "server.key", "client.key", "credentials.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    (folder / "server.key").chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        KeyFolder(folder)
    (folder / "clients" / "alice" / "client.key").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        ClientKeys.load(folder / "clients" / "alice")


def test_certificates_say_what_they_are_for_and_nothing_more(folder: Path) -> None:
    run("client", "alice", "--role", "operator", keys=folder)
    authority, server = certificate(folder / "ca.pem"), certificate(folder / "server.pem")
    client = certificate(folder / "clients" / "alice" / "client.pem")
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "afm.lab.example"} <= set(names.get_values_for_type(x509.DNSName))
    assert {"127.0.0.1", "10.1.2.3"} <= {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    for one, purpose in ((server, ExtendedKeyUsageOID.SERVER_AUTH), (client, ExtendedKeyUsageOID.CLIENT_AUTH)):
        one.verify_directly_issued_by(authority)
        assert list(one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]
        assert not one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert client.public_key().curve.name == "secp256r1"


def test_an_existing_folder_is_not_overwritten(folder: Path) -> None:
    before = (folder / "ca.key").read_bytes()
    assert run("init", keys=folder) == 2
    assert (folder / "ca.key").read_bytes() == before


def test_a_renewed_certificate_is_of_the_same_authority(folder: Path) -> None:
    before = certificate(folder / "server.pem")
    assert run("renew", "--host", "new.example", keys=folder) == 0
    after = certificate(folder / "server.pem")
    after.verify_directly_issued_by(certificate(folder / "ca.pem"))
    assert after.serial_number != before.serial_number
    names = after.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "new.example" in names.get_values_for_type(x509.DNSName)


def test_a_host_that_cannot_stand_in_a_certificate_leaves_nothing_behind(tmp_path: Path, capsys) -> None:
    assert run("init", "--host", "über.example", keys=tmp_path / "k") == 2
    assert "über.example" in capsys.readouterr().err
    assert not (tmp_path / "k").exists()


def test_what_makes_certificates_is_optional(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert run("client", "alice", "--role", "operator", keys=folder) == 1
    assert "pip install 'twinscope[tls]'" in capsys.readouterr().err
    server_context(KeyFolder(folder), mutual=False)


# ---------------------------------------------------------------------- what is stored


def test_a_token_is_shown_once_and_stored_nowhere(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    run("token", "robot", "--role", "operator", keys=folder)
    token = capsys.readouterr().out.strip()
    assert len(token) >= 43, "256 bits"
    assert all(token not in path.read_text() for path in folder.rglob("*") if path.is_file())
    run("list", keys=folder)
    listed = capsys.readouterr().out
    assert "robot" in listed
    assert token not in listed
    assert identified(Authenticator(KeyFolder(folder)), token) == Identity("robot", Role.OPERATOR)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a b", "a\nb", "-x", "x" * 64, "ä"])
def test_a_name_that_could_be_something_else_is_refused(folder: Path, name: str) -> None:
    keys = KeyFolder(folder)
    for kind in ("token", "certificate"):
        with pytest.raises(ConfigurationError, match="cannot be one"):
            keys.check_free(kind, name)


def test_a_name_has_one_token_at_a_time(folder: Path) -> None:
    keys = KeyFolder(folder)
    first = keys.add_token("robot", Role.OBSERVER)
    with pytest.raises(ConfigurationError, match="has a token already"):
        keys.add_token("robot", Role.ADMIN)
    keys.revoke("robot")
    second = keys.add_token("robot", Role.ADMIN)
    authenticator = Authenticator(keys)
    assert identified(authenticator, second).role is Role.ADMIN
    with pytest.raises(AuthenticationError):
        identified(authenticator, first)
    with pytest.raises(ConfigurationError, match="no token and no certificate"):
        keys.revoke("nobody")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[1]",
        "[{}]",
        '[{"kind": "token"}]',
        '[{"kind": 1, "name": 2, "role": "admin", "mark": 3, "created": 4}]',
    ],
)
def test_credentials_that_cannot_be_read_let_nobody_in(folder: Path, content: str) -> None:
    keys = KeyFolder(folder)
    token = keys.add_token("robot", Role.OPERATOR)
    (folder / "credentials.json").write_text(content)
    with pytest.raises(ConfigurationError, match="nobody can be let in"):
        identified(Authenticator(keys), token)


def test_a_missing_folder_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="twinscope keys init"):
        KeyFolder(tmp_path / "none")
    with pytest.raises(ConfigurationError, match="twinscope keys client"):
        ClientKeys.load(tmp_path / "none")


# ---------------------------------------------------------------------- who is let in


def test_a_revoked_certificate_is_refused_and_its_successor_is_not(folder: Path) -> None:
    keys = KeyFolder(folder)
    authenticator = Authenticator(keys)
    path = folder / "clients" / "alice" / "client.pem"
    run("client", "alice", "--role", "operator", keys=folder)
    first = shown(certificate(path))
    assert identified(authenticator, None, first) == Identity("alice", Role.OPERATOR)
    run("revoke", "alice", keys=folder)
    run("client", "alice", "--role", "observer", keys=folder)
    second = shown(certificate(path))
    assert identified(authenticator, None, second) == Identity("alice", Role.OBSERVER)
    with pytest.raises(AuthenticationError):
        identified(authenticator, keys.add_token("alice", Role.ADMIN), first)
    assert sum(entry["revoked"] for entry in json.loads((folder / "credentials.json").read_text())) == 1


def test_a_certificate_without_a_role_is_nobody(folder: Path) -> None:
    with pytest.raises(AuthenticationError):
        identified(Authenticator(KeyFolder(folder)), None, shown(certificate(folder / "server.pem")))


def test_the_shared_token_makes_administrators_only_where_there_are_no_keys(folder: Path) -> None:
    assert identified(Authenticator(token="sesame"), "sesame") == Identity(SHARED, Role.ADMIN)
    assert identified(Authenticator(KeyFolder(folder), "sesame"), "sesame") == Identity(SHARED, Role.OPERATOR)
    for wrong in (None, "", "Sesame", 7, ["sesame"], b"sesame"):
        with pytest.raises(AuthenticationError, match="missing, wrong or revoked"):
            identified(Authenticator(token="sesame"), wrong)


def test_without_keys_and_token_everybody_on_this_machine_is_an_administrator() -> None:
    assert Authenticator().identify(None, None, "local:ada") == Identity("local:ada", Role.ADMIN)
    assert Authenticator().identify("any", None, "127.0.0.1") == Identity("local", Role.ADMIN)


def test_only_tls_from_1_2_on_is_spoken(folder: Path) -> None:
    run("client", "alice", "--role", "operator", keys=folder)
    server = server_context(KeyFolder(folder), mutual=True)
    client = ClientKeys.load(folder / "clients" / "alice").context()
    for context in (server, client):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.verify_mode is ssl.CERT_REQUIRED
    assert client.check_hostname
    assert [authority["subject"] for authority in client.get_ca_certs()] == [
        ((("commonName", "twinscope authority"),),)
    ], "no authority but ours is trusted"
