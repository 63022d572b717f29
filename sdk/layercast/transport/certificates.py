"""Certificate files, looked at before gRPC does: it only says that a handshake failed, not why.

Needs nothing beyond the standard library, because a relay is installed without `cryptography`.
"""

from __future__ import annotations

import datetime
import re
import ssl
import time
from pathlib import Path

from layercast.errors import ConfigError

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

MAX_PEM_BYTES = 1 << 20
"""Largest PEM file that is read, in bytes: the certificate authorities of a whole system take 220 KB."""

_CONTEXT_TAG = 0xA0
_TIME_FORMATS = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
"""DER tags of UTCTime and GeneralizedTime, in the only forms that RFC 5280 (4.1.2.5) allows."""


def read_pem(path: Path, what: str) -> bytes:
    """The bytes of a PEM file.

    Args:
        path: of the file.
        what: it is for, in error messages.

    Raises:
        ConfigError: it cannot be read, or is no PEM file.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror}") from None
    if len(data) > MAX_PEM_BYTES or b"-----BEGIN " not in data:
        raise ConfigError(f"the {what} {path} is no PEM file", hint="it begins with -----BEGIN ...-----")
    return data


def check_certificates(path: Path, what: str, now_s: float | None = None) -> bytes:
    """The bytes of a PEM file of certificates of which one at least is valid now (seconds since the Unix epoch).

    Raises:
        ConfigError: it cannot be read, holds no certificate, or they have expired or are not valid yet.
    """
    data = read_pem(path, what)
    _check_periods(_periods(data, path, what), path, what, now_s)
    return data


def check_pair(certificate: Path, key: Path, what: str, now_s: float | None = None) -> tuple[bytes, bytes]:
    """The bytes of a certificate (chain) that is valid now and of the private key that belongs to it.

    Raises:
        ConfigError: see check_certificates; or the key is encrypted, or belongs to another certificate.
    """
    chain, secret = read_pem(certificate, what), read_pem(key, f"key of the {what}")
    _check_periods(_periods(chain, certificate, what)[:1], certificate, what, now_s)
    try:
        # A password callback that gives none makes an encrypted key an error instead of a question on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise ConfigError(
            f"the key {key} does not belong to the {what} {certificate}, or is encrypted: {reason}"
        ) from None
    return chain, secret


def _periods(data: bytes, path: Path, what: str) -> list[tuple[float, float]]:
    try:
        found = [validity(ssl.PEM_cert_to_DER_cert(block.decode())) for block in _BLOCK.findall(data)]
    except (ValueError, IndexError):
        found = []
    if not found:
        raise ConfigError(f"the {what} {path} holds no certificate, or a damaged one")
    return found


def _check_periods(periods: list[tuple[float, float]], path: Path, what: str, now_s: float | None) -> None:
    now_s = time.time() if now_s is None else now_s
    if now_s > (end_s := max(end for _, end in periods)):
        raise ConfigError(f"the {what} {path} expired on {_day(end_s)}", hint="renew it")
    if now_s < (begin_s := min(begin for begin, _ in periods)):
        raise ConfigError(f"the {what} {path} is valid from {_day(begin_s)} on", hint="is this clock right?")


def validity(der: bytes) -> tuple[float, float]:
    """From when until when a DER certificate is valid, seconds since the Unix epoch (RFC 5280, 4.1).

    Raises:
        ValueError, IndexError: the bytes are no certificate.
    """
    _, at, _ = _element(der, 0)  # Certificate
    _, at, _ = _element(der, at)  # TBSCertificate
    if der[at] == _CONTEXT_TAG:  # version
        _, _, at = _element(der, at)
    for _ in range(3):  # serial number, signature algorithm, issuer
        _, _, at = _element(der, at)
    _, at, _ = _element(der, at)  # Validity
    times = []
    for _ in range(2):
        tag, start, at = _element(der, at)
        if tag not in _TIME_FORMATS:
            raise ValueError(f"tag {tag} is no time")
        moment = datetime.datetime.strptime(der[start:at].decode("ascii"), _TIME_FORMATS[tag])
        times.append(moment.replace(tzinfo=datetime.timezone.utc).timestamp())
    return times[0], times[1]


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, first byte of the content and first byte behind it, of the DER element at `at`."""
    tag, length, start = der[at], der[at + 1], at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[at + 2 : start], "big")
    if start + length > len(der):
        raise ValueError("a DER element ends behind the data")
    return tag, start, start + length


def _day(moment_s: float) -> str:
    return datetime.datetime.fromtimestamp(moment_s, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
