"""The key folder of a server: who may connect, as what, and with what they show it.

::

    ca.pem, ca.key          our own authority: the key can be kept elsewhere, it is needed only to make certificates
    server.pem, server.key  what the server shows
    credentials.json        tokens (as hashes only) and certificates that were given out
    clients/NAME/           what a client gets: ca.pem, and client.pem with client.key
"""

import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twinscope.errors import ConfigurationError
from twinscope.sessions import Role

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Credential:
    """A token or a certificate that was given out.

    Attributes
    ----------
    kind
        "token" or "certificate".
    name
        Of the person or program that has it.
    role
        Name of a :class:`~twinscope.sessions.Role`.
    mark
        What it is known by: SHA-256 of the token, or the serial number of the certificate, in hexadecimal digits.
    created, expires
        ISO 8601; a token does not expire.
    revoked
        Whether it is not accepted any more.
    """

    kind: str
    name: str
    role: str
    mark: str
    created: str
    expires: str | None = None
    revoked: bool = False

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Credential":
        """Rebuild one; raises ValueError or TypeError when something is wrong with it."""
        credential = cls(**data)
        texts = (credential.kind, credential.name, credential.mark, credential.created)
        if not (all(isinstance(text, str) for text in texts) and isinstance(credential.revoked, bool)):
            raise TypeError("a value has the wrong type")
        Role.parse(credential.role)
        return credential


class KeyFolder:
    """A folder that ``twinscope keys init`` has made. What changes in it counts from the next look on.

    Raises
    ------
    ConfigurationError
        When there is none, something in it cannot be read, or a secret in it can be read by others.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.authority, self.authority_key = path / "ca.pem", path / "ca.key"
        self.certificate, self.key = path / "server.pem", path / "server.key"
        self._file = path / "credentials.json"
        self._stamp: tuple[int, ...] = ()
        self._credentials: list[Credential] = []
        for needed in (self.authority, self.certificate, self.key, self._file):
            if not needed.is_file():
                raise ConfigurationError(f"{needed} is missing: make a key folder with `twinscope keys init`")
        for secret in (self.authority_key, self.key):
            refuse_readable(secret)
        self.credentials()

    @classmethod
    def create(cls, path: Path) -> None:
        """Make an empty folder, or take one; the authority and the certificate of the server are still to come."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise ConfigurationError(f"{path} is not empty: choose another folder for new keys")
        path.chmod(0o700)
        write_secret(path / "credentials.json", b"[]\n")

    def client_folder(self, name: str) -> Path:
        """Return where the files for a client are put."""
        return self.path / "clients" / name

    def credentials(self) -> list[Credential]:
        """Return everything that was given out, as it is on disk now."""
        try:
            status = self._file.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                entries = json.loads(self._file.read_bytes())
                if not isinstance(entries, list):
                    raise TypeError(f"expected a list, not {type(entries).__name__}")
                self._credentials = [Credential.from_dict(entry) for entry in entries]
                self._stamp = stamp
        except (OSError, ValueError, TypeError) as exc:
            raise ConfigurationError(f"{self._file} cannot be used, so nobody can be let in: {exc}") from exc
        return list(self._credentials)

    def add_token(self, name: str, role: Role) -> str:
        """Make a token and return it: it is stored nowhere.

        Raises
        ------
        ConfigurationError
            When the name cannot be one, or has a token already.
        """
        self.check_free("token", name)
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self.add(Credential("token", name, role.name.lower(), hash_of(token), now()))
        return token

    def add(self, credential: Credential) -> None:
        """Note what was given out."""
        self._write([*self.credentials(), credential])

    def check_free(self, kind: str, name: str) -> None:
        """Raise :class:`ConfigurationError` when a name cannot be one, or has such a credential already."""
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"the name {name!r} cannot be one: expected 1 to 63 letters, digits and . _ @ -")
        if any((one.kind, one.name) == (kind, name) and not one.revoked for one in self.credentials()):
            raise ConfigurationError(
                f"{name} has a {kind} already: take it back with `twinscope keys revoke`, or choose another name"
            )

    def revoke(self, name: str) -> list[Credential]:
        """Take back all that a name has, and return it.

        Raises
        ------
        ConfigurationError
            When it has nothing.
        """
        entries = self.credentials()
        taken = [one for one in entries if one.name == name and not one.revoked]
        if not taken:
            raise ConfigurationError(f"{name!r} has no token and no certificate: see `twinscope keys list`")
        kept = [one for one in entries if one not in taken]
        # A certificate is valid by itself, so that it must be remembered; a forgotten token opens nothing.
        gone = [Credential(**(asdict(one) | {"revoked": True})) for one in taken if one.kind == "certificate"]
        self._write(kept + gone)
        return taken

    def _write(self, entries: list[Credential]) -> None:
        text = json.dumps([asdict(one) for one in entries], indent=1) + "\n"
        write_secret(self._file, text.encode())


def hash_of(token: str) -> str:
    """Return what is kept of a token. It has 256 random bits, so that a slow hash would add nothing."""
    return hashlib.sha256(token.encode()).hexdigest()


def now() -> str:
    """Return the time as it is noted."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read; one that is there is replaced as a whole."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def refuse_readable(secret: Path) -> None:
    """Raise :class:`ConfigurationError` when others can read a secret."""
    if os.name == "posix" and secret.exists() and secret.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(f"others can read the secret {secret}: chmod 600 it, or make new keys")
