"""What one end of a connection shows the other: certificates and tokens, read from files that may be replaced."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from layercast.errors import ConfigError
from layercast.transport.certificates import check_certificates, check_pair

AUTHORIZATION_KEY = "authorization"
"""Metadata key of the token, as in HTTP (RFC 6750)."""

MAX_TOKEN_BYTES = 2 << 10
"""Longest token in bytes: with the largest hello it stays below gRPC's 8 KiB for all metadata. One signed with a
4096-bit RSA key has under 1000."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Credentials:
    """For a Sender, a Receiver, or a relay towards its upstream. Files are read anew for every connection.

    Attributes:
        tls: encrypt, and check the relay's certificate; any of the next four turns it on.
        ca: PEM file of the authorities to trust; None: those that gRPC brings along.
        certificate, key: PEM files to show to a relay that asks for them (mutual TLS).
        server_name: the name in the relay's certificate, if it is not the host of the address.
        token: what the relay's operator gave out (`layercast token`).
        token_file: a file with the token in it, instead; replace it before the token in it expires.

    Raises:
        ConfigError: a certificate without key, a key without certificate, or both `token` and `token_file`.
    """

    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""
    token: str = field(default="", repr=False)
    token_file: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("a client certificate and its key belong together", hint="give both")
        if self.token and self.token_file is not None:
            raise ConfigError("both a token and a token file", hint="give one of them")

    @property
    def encrypted(self) -> bool:
        """Whether connections use TLS."""
        return self.tls or bool(self.ca or self.certificate or self.server_name)

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """For gRPC; None without TLS.

        Raises:
            ConfigError: a file is missing, damaged, or the certificate in it has expired.
        """
        if not self.encrypted:
            return None
        roots = None if self.ca is None else check_certificates(self.ca, "certificate authority")
        if self.certificate is None or self.key is None:
            return grpc.ssl_channel_credentials(roots)
        chain, key = check_pair(self.certificate, self.key, "client certificate")
        return grpc.ssl_channel_credentials(roots, key, chain)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The token as gRPC metadata; empty without one.

        Raises:
            ConfigError: the token file cannot be read, or what is in it is no token.
        """
        token = self.token
        if self.token_file is not None:
            try:
                token = self.token_file.read_text("ascii")
            except OSError as error:
                raise ConfigError(f"cannot read the token file {self.token_file}: {error.strerror}") from None
            except UnicodeDecodeError:
                raise ConfigError(f"{self.token_file} holds no token") from None
        token = token.strip()
        if not token:
            return ()
        if len(token) > MAX_TOKEN_BYTES or not (token.isascii() and token.isprintable()) or " " in token:
            raise ConfigError("the token is none", hint="it is one word, as `layercast token` prints it")
        return ((AUTHORIZATION_KEY, f"Bearer {token}"),)


@dataclass(frozen=True, slots=True)
class ServerTls:
    """A relay's certificate. Files that are replaced are used from the next handshake on.

    Attributes:
        certificate, key: PEM files; the certificate may be followed by its chain.
        client_ca: PEM file of the authorities that sign clients' certificates; then a client must show one
            (mutual TLS).
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def server_credentials(self, on_handshake: Callable[[], None]) -> grpc.ServerCredentials:
        """For gRPC.

        Args:
            on_handshake: called for each handshake that begins, on a thread of gRPC's.

        Raises:
            ConfigError: a file is missing, damaged, or the certificate in it has expired.
        """
        loaded, configuration = self._stamp(), self._configuration()
        lock = threading.Lock()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal loaded
            on_handshake()
            with lock:
                if (stamp := self._stamp()) == loaded:
                    return None
                loaded = stamp
                try:
                    return self._configuration()
                except ConfigError as error:
                    _log.error("certificate not replaced: %s", error)
                    return None

        fetcher: Any = fetch  # the stubs do not know that None keeps what there is
        return grpc.dynamic_ssl_server_credentials(configuration, fetcher, self.client_ca is not None)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        chain, key = check_pair(self.certificate, self.key, "server certificate")
        authorities = None
        if self.client_ca is not None:
            authorities = check_certificates(self.client_ca, "clients' certificate authority")
        return grpc.ssl_server_certificate_configuration([(key, chain)], authorities)

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Changes when one of the files is replaced."""
        return tuple(
            file_stamp(path) for path in (self.certificate, self.key, self.client_ca) if path is not None
        )


def file_stamp(path: Path) -> tuple[int, int, int]:
    """Inode, size and time of change in nanoseconds; zeros while there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)
