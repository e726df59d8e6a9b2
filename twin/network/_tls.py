"""TLS as both sides want it: at least 1.2, and no authority but our own."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from twinscope.errors import ConfigurationError
from twinscope.network.keys import KeyFolder, refuse_readable


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a client has: the authority it trusts, and what it shows.

    Attributes
    ----------
    authority
        File of the certificate that the server's was made with.
    certificate, key
        Files of its own certificate, if it has one.
    token
        Its token, if it has one.
    """

    authority: Path
    certificate: Path | None = None
    key: Path | None = None
    token: str | None = None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Take what is in a folder (ca.pem, client.pem, client.key, token), or a single file ca.pem.

        Raises
        ------
        ConfigurationError
            When there is no ca.pem, or a secret can be read by others.
        """
        path = Path(path).expanduser()
        if path.is_file():
            return cls(path)
        authority, certificate, key, token = (path / name for name in ("ca.pem", "client.pem", "client.key", "token"))
        if not authority.is_file():
            raise ConfigurationError(
                f"{authority} is missing: expected the folder that `twinscope keys client` has made, or a file ca.pem"
            )
        for secret in (key, token):
            refuse_readable(secret)
        has_certificate = certificate.is_file()
        return cls(
            authority,
            certificate if has_certificate else None,
            key if has_certificate else None,
            token.read_text().strip() if token.is_file() else None,
        )

    def context(self) -> ssl.SSLContext:
        """Return how to connect: the name and the certificate of the server are verified."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _equip(context, self.authority, self.certificate, self.key)
        return context


def server_context(keys: KeyFolder, mutual: bool) -> ssl.SSLContext:
    """Return how to take connections: with `mutual`, only from those who have a certificate of our authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_OPTIONAL
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Nobody comes back often enough for tickets to pay.
    context.num_tickets = 0
    _equip(context, keys.authority, keys.certificate, keys.key)
    return context


def _equip(context: ssl.SSLContext, authority: Path, certificate: Path | None, key: Path | None) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(authority)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except OSError as exc:
        raise ConfigurationError(f"the keys beside {authority} cannot be used: {exc}") from exc
