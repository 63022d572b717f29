"""Certificates, keys and tokens for tests, made when they are needed; nothing secret is stored."""

from __future__ import annotations

import datetime
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from layercast.transport.tokens import generate_key, load_keys, mint

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Paper:
    """A certificate and its key, also as the files `certificate` and `key`."""

    certificate: Path
    key: Path
    signed: x509.Certificate
    private: ec.EllipticCurvePrivateKey


def paper(
    folder: Path,
    name: str,
    issuer: Paper | None = None,
    *,
    host: str = "127.0.0.1",
    begins: datetime.timedelta = -DAY,
    ends: datetime.timedelta = DAY,
) -> Paper:
    """A certificate signed by `issuer`, or by itself as an authority."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.signed.subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(issuer is None, None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False
        )
        .sign(private if issuer is None else issuer.private, hashes.SHA256())
    )
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return Paper(certificate, key, signed, private)


class Issuer:
    """A key file, and tokens signed by the keys in it."""

    def __init__(self, path: Path, *kids: str, algorithm: str = "HS256") -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        self.add(*kids or ("one",), algorithm=algorithm)

    def add(self, *kids: str, algorithm: str = "HS256") -> None:
        self.write([*self.entries, *(generate_key(kid, algorithm) for kid in kids)])

    def remove(self, kid: str) -> None:
        self.write([entry for entry in self.entries if entry["kid"] != kid])

    def write(self, entries: list[dict[str, Any]]) -> None:
        self.entries = entries
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps({"keys": entries}))
        draft.replace(self.path)

    def token(
        self, stream: str = "*", right: str = "both", lifetime_s: float = 3600, kid: str = "", **options: Any
    ) -> str:
        keys = load_keys(self.path, private=True)
        return mint(keys[kid or list(keys)[-1]], stream, right, lifetime_s, **options)
