"""Makes certificates (RFC 5280) with the package cryptography: an authority of our own, a server's, and clients'."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 730
# Clocks of lab computers are not always right.
_EARLIER = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Made:
    """A certificate and its private key, in PEM.

    Attributes
    ----------
    certificate, key
        Contents of the files.
    serial
        In hexadecimal digits.
    expires
        ISO 8601.
    hosts
        Names and addresses of the server that has it.
    """

    certificate: bytes
    key: bytes
    serial: str
    expires: str
    hosts: tuple[str, ...] = ()


class Authority:
    """Makes certificates. It is rebuilt from the contents of its files."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        self._certificate = x509.load_pem_x509_certificate(certificate)
        private = serialization.load_pem_private_key(key, password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ValueError(f"the key of the authority is {type(private).__name__}: expected one of an elliptic curve")
        self._key = private

    @classmethod
    def create(cls) -> Made:
        """Make a new authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "twinscope authority")])
        builder = (
            _begun(name, name, key, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
        )
        return _made(builder.sign(key, hashes.SHA256()), key)

    def server(self, hosts: Sequence[str]) -> Made:
        """Make the certificate of a server that is reached by these names and IP addresses."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "twinscope server")])
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        return replace(self._issue(name, ExtendedKeyUsageOID.SERVER_AUTH, names), hosts=tuple(hosts))

    def client(self, name: str, role: str) -> Made:
        """Make the certificate of a client; its role is the organizational unit."""
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        return self._issue(subject, ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(
        self, subject: x509.Name, purpose: x509.ObjectIdentifier, names: x509.SubjectAlternativeName | None = None
    ) -> Made:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _begun(subject, self._certificate.subject, key, CERTIFICATE_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return _made(builder.sign(self._key, hashes.SHA256()), key)


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) - _EARLIER
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _made(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Made:
    return Made(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        format(certificate.serial_number, "x"),
        certificate.not_valid_after_utc.isoformat(timespec="seconds"),
    )
