"""The server's question to those who connect: who they are."""

import hmac
from collections.abc import Mapping
from typing import Any

from twinscope.errors import AuthenticationError, ConfigurationError
from twinscope.network.keys import Credential, KeyFolder, hash_of, now
from twinscope.sessions import Identity, Role

SHARED = "shared-token"
"""Name of everybody who comes with the one token of ``--token-file``."""

_LOCAL = "local"


class Authenticator:
    """Finds out who someone is.

    Parameters
    ----------
    keys
        Tokens and certificates that were given out.
    token
        One token for everybody, as a shortcut: they are administrators when there are no keys, else operators.

    With neither of them it asks for nothing: then only this machine may get to the server.
    """

    def __init__(self, keys: KeyFolder | None = None, token: str | None = None) -> None:
        self._keys = keys
        role = Role.ADMIN if keys is None else Role.OPERATOR
        self._shared = [] if token is None else [Credential("token", SHARED, role.name.lower(), hash_of(token), now())]

    @property
    def asks(self) -> bool:
        """Whether it asks for anything."""
        return bool(self._shared) or self._keys is not None

    def identify(self, token: Any, certificate: Mapping[str, Any] | None, peer: str) -> Identity:
        """Return who shows a token, or a certificate that TLS has found to be of our authority.

        Raises
        ------
        AuthenticationError
            When that is nobody. It does not say what was wrong, as that would help others more.
        ConfigurationError
            When the keys cannot be read.
        """
        if not self.asks:
            return Identity(peer if peer.startswith(_LOCAL) else _LOCAL, Role.ADMIN)
        found = self._owner(certificate) if certificate else self._holder(token)
        if found is None:
            raise AuthenticationError(
                "the server asks for a token or a client certificate: what was shown is missing, wrong or revoked"
                " (see `twinscope keys`)"
            )
        return found

    def _holder(self, token: Any) -> Identity | None:
        mark = hash_of(token) if isinstance(token, str) else ""
        found = None
        for one in self._given("token") + self._shared:
            # All are compared, each in the same time, whichever it is.
            if hmac.compare_digest(mark.encode(), one.mark.encode()):
                found = Identity(one.name, Role.parse(one.role))
        return found

    def _owner(self, certificate: Mapping[str, Any]) -> Identity | None:
        subject = {name: value for entry in certificate["subject"] for name, value in entry}
        serial = int(certificate["serialNumber"], 16)
        if any(one.revoked and int(one.mark, 16) == serial for one in self._given("certificate")):
            return None
        try:
            return Identity(subject["commonName"], Role.parse(subject["organizationalUnitName"]))
        except (KeyError, ConfigurationError):
            # The server's own certificate, for instance, has no role.
            return None

    def _given(self, kind: str) -> list[Credential]:
        return [] if self._keys is None else [one for one in self._keys.credentials() if one.kind == kind]
