"""The commands ``twinscope keys``: who may connect to a server over a network."""

import argparse
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope._optional import import_optional
from twinscope.errors import ConfigurationError
from twinscope.network.keys import Credential, KeyFolder, now, write_secret
from twinscope.sessions import Role

if TYPE_CHECKING:
    from twinscope.network._certificates import Authority, Made

_ALWAYS = ("localhost", "127.0.0.1", "::1")


def init(options: argparse.Namespace) -> int:
    """Make a key folder: an authority of our own, and the certificate of the server."""
    authority = _certificates().create()
    server = _server(authority.certificate, authority.key, options.host)
    KeyFolder.create(options.keys)
    write_secret(options.keys / "ca.pem", authority.certificate)
    write_secret(options.keys / "ca.key", authority.key)
    _write_server(options.keys, server)
    print(f"keys      {options.keys}: keep it secret, and ca.key above all")
    print(f"serve     twinscope serve --host ADDRESS --keys {options.keys}")
    print(f"a client  twinscope keys client NAME --role operator --keys {options.keys}")
    return 0


def renew(options: argparse.Namespace) -> int:
    """Make a new certificate of the server, for other names or another two years; clients need nothing new."""
    KeyFolder(options.keys)
    _write_server(options.keys, _server(*_authority(options.keys), options.host))
    print("it counts when the server is started again")
    return 0


def client(options: argparse.Namespace) -> int:
    """Make the certificate of a client, in a folder to be brought there."""
    keys = KeyFolder(options.keys)
    keys.check_free("certificate", options.name)
    role = Role.parse(options.role)
    made = _certificates()(*_authority(options.keys)).client(options.name, role.name.lower())
    folder = keys.client_folder(options.name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secret(folder / "ca.pem", keys.authority.read_bytes())
    write_secret(folder / "client.pem", made.certificate)
    write_secret(folder / "client.key", made.key)
    keys.add(Credential("certificate", options.name, role.name.lower(), made.serial, now(), made.expires))
    print(f"folder   {folder}: bring it to {options.name} in a way that nobody else can read")
    print(f"python   twinscope.connect(ADDRESS, keys={folder.name!r})")
    print(f"expires  {made.expires}")
    return 0


def token(options: argparse.Namespace) -> int:
    """Make a token; it is shown once and stored nowhere."""
    keys = KeyFolder(options.keys)
    secret = keys.add_token(options.name, Role.parse(options.role))
    print(secret)
    return 0


def show(options: argparse.Namespace) -> int:
    """List who may connect, and who may not any more."""
    for one in sorted(KeyFolder(options.keys).credentials(), key=lambda one: (one.name, one.kind)):
        until = "revoked" if one.revoked else f"until {one.expires}" if one.expires else "until revoked"
        print(f"{one.name:<20} {one.kind:<12} {one.role:<9} since {one.created}, {until}")
    return 0


def revoke(options: argparse.Namespace) -> int:
    """Take back the token and the certificates of a client; a running server notices within seconds."""
    for one in KeyFolder(options.keys).revoke(options.name):
        print(f"revoked  {one.kind} of {one.name} ({one.role})")
    return 0


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands to the parser of ``twinscope keys``."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        text = command.__doc__ or ""
        sub = commands.add_parser(name, help=text[0].lower() + text[1:].rstrip("."), description=text)
        sub.set_defaults(command=command)
        sub.add_argument(
            "--keys", type=Path, default=Path("twinscope-keys"), help="folder of the server's keys (%(default)s)"
        )
        return sub

    for name, command in (("init", init), ("renew", renew)):
        add(name, command).add_argument(
            "--host", action="append", default=[], help="name or IP address by which clients reach the server"
        )
    for name, command in (("client", client), ("token", token)):
        sub = add(name, command)
        sub.add_argument("name", help="of the person or program")
        sub.add_argument("--role", required=True, choices=[role.name.lower() for role in Role])
    add("list", show)
    add("revoke", revoke).add_argument("name", help="of the person or program")


def _certificates() -> "type[Authority]":
    import_optional("cryptography", "tls")
    from twinscope.network._certificates import Authority

    return Authority


def _authority(folder: Path) -> tuple[bytes, bytes]:
    try:
        return (folder / "ca.pem").read_bytes(), (folder / "ca.key").read_bytes()
    except OSError as exc:
        raise ConfigurationError(f"a certificate needs the key of the authority: {exc}") from exc


def _server(certificate: bytes, key: bytes, hosts: Sequence[str]) -> "Made":
    names = dict.fromkeys((*_ALWAYS, socket.gethostname(), *hosts))
    try:
        return _certificates()(certificate, key).server(list(names))
    except ValueError as exc:
        raise ConfigurationError(f"no certificate can be made for {', '.join(names)}: {exc}") from exc


def _write_server(folder: Path, made: "Made") -> None:
    write_secret(folder / "server.pem", made.certificate)
    write_secret(folder / "server.key", made.key)
    print(f"server    {', '.join(made.hosts)}, until {made.expires}")
