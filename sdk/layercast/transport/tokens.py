"""Signed bearer tokens: JSON Web Tokens (RFC 7519) that name a stream and a right, and the keys that sign them.

A relay holds a set of keys (JWK Set, RFC 7517), any of which may have signed a token: a new key is added before the
old one is taken away, and nobody is cut off in between. PyJWT alone checks HS256; the other algorithms need its
`cryptography` extra.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from layercast.errors import ConfigError
from layercast.transport.credentials import MAX_TOKEN_BYTES, file_stamp
from layercast.transport.status import AccessError

ALGORITHMS = ("HS256", "EdDSA", "RS256")
"""Of signatures. A key is for one of them only: a token cannot choose."""

RIGHTS = {"publish": {"publish"}, "subscribe": {"subscribe"}, "both": {"publish", "subscribe"}}
"""Claim `right`, and what it allows."""

STREAM_PATTERN = re.compile(r"[A-Za-z0-9._*-]{1,64}")
"""Claim `stream`: a stream's name, in which * stands for any characters."""

MAX_KEYS = 32
"""Keys in a set; rotation needs two or three."""

MAX_KEYS_BYTES = 256 << 10
"""Largest key file in bytes: 32 private RSA keys of 4096 bits take 110 KB."""

MIN_SECRET_BYTES = 32
"""Shortest HS256 secret in bytes (RFC 7518, 3.2)."""

RSA_BITS = 3072
"""Of keys made here: as strong as the others (NIST SP 800-57, 128 bits)."""

PRIVATE_FIELDS = ("d", "p", "q", "dp", "dq", "qi")
"""Fields of a JWK that a relay has no use for."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allowed.

    Attributes:
        stream: pattern of the streams.
        right: one of RIGHTS.
        expires_s: seconds since the Unix epoch.
        subject: whom the token was made for, "" if it does not say.
        key: that signed it.
    """

    stream: str
    right: str
    expires_s: float
    subject: str
    key: jwt.PyJWK


class TokenKeys:
    """The keys that a relay accepts signatures of.

    Args:
        path: a JWK Set, as `layercast token key` writes it; every key has a `kid` and an `alg`.
        clock: seconds since the Unix epoch.

    Raises:
        ConfigError: no such file, or no usable key in it.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._stamp = file_stamp(path)
        self._keys = load_keys(path)

    def reload(self) -> None:
        """Read the file again if it has changed; a damaged one is reported in the log, and changes nothing."""
        if (stamp := file_stamp(self._path)) == self._stamp:
            return
        self._stamp = stamp
        try:
            fresh = load_keys(self._path)
        except ConfigError as error:
            _log.error("token keys not replaced: %s", error)
            return
        self._keys = {
            # The same object for the same key: that is how a grant knows that its key is still there.
            kid: self._keys[kid] if _same(self._keys.get(kid), key) else key
            for kid, key in fresh.items()
        }
        _log.info("token keys replaced: %s", ", ".join(self._keys))

    def check(self, token: str, stream: str, right: str) -> Grant:
        """What `token` allows, which includes `right` ("publish" or "subscribe") on `stream`.

        Raises:
            AccessError: anything else.
        """
        grant = self._verify(token)
        if (error := self.why_ended(grant)) is not None:
            raise error
        if not fnmatch.fnmatchcase(stream, grant.stream):
            raise AccessError("wrong-stream", f"the token is for {grant.stream!r}, not for {stream!r}")
        if right not in RIGHTS[grant.right]:
            raise AccessError("wrong-right", f"the token allows to {grant.right}, not to {right}")
        return grant

    def why_ended(self, grant: Grant) -> AccessError | None:
        """Why a grant holds no more, None while it does."""
        if self._clock() >= grant.expires_s:
            return AccessError("token-expired", "the token has expired", hint="ask for a new one")
        if self._keys.get(grant.key.key_id or "") is not grant.key:
            return AccessError(
                "unknown-key", "the token's key is no longer accepted", hint="ask for a new token"
            )
        return None

    def _verify(self, token: str) -> Grant:
        try:
            if len(token) > MAX_TOKEN_BYTES:
                raise jwt.InvalidTokenError(f"{len(token)} bytes long")
            kid = jwt.get_unverified_header(token).get("kid")
            key = self._keys.get(kid) if isinstance(kid, str) else None
            if key is None:
                raise AccessError(
                    "unknown-key", "the token's key is not accepted", hint="ask for a new token"
                )
            # Expiry is looked at again while the call lasts, by the same clock: `why_ended`.
            claims = jwt.decode(token, key, algorithms=[key.algorithm_name], options=_OPTIONS)
        except jwt.InvalidTokenError as error:
            raise AccessError("bad-token", f"the token is not valid: {error}") from None
        return self._grant(claims, key)

    def _grant(self, claims: Mapping[str, Any], key: jwt.PyJWK) -> Grant:
        stream, right, expires = (claims.get(name) for name in ("stream", "right", "exp"))
        begins, subject = claims.get("nbf", 0), claims.get("sub", "")
        if (
            not (isinstance(stream, str) and STREAM_PATTERN.fullmatch(stream) and isinstance(right, str))
            or right not in RIGHTS
            or not all(isinstance(t, int | float) and math.isfinite(t) for t in (expires, begins))
            or not isinstance(subject, str)
        ):
            raise AccessError("bad-token", "the token's claims are not stream, right and exp")
        if self._clock() < begins:
            raise AccessError("bad-token", "the token is not valid yet", hint="is the relay's clock right?")
        # The checks above hold for every claim; all() over two of them tells mypy nothing of either.
        return Grant(stream, right, float(expires), subject, key)  # type: ignore[arg-type]


_OPTIONS: Any = {
    "require": ["exp", "stream", "right"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_sub": False,
    "verify_jti": False,
}


def load_keys(path: Path, *, private: bool = False) -> dict[str, jwt.PyJWK]:
    """The keys in a JWK Set file by their `kid`, in the file's order.

    Args:
        path: of the file.
        private: keep what is needed to sign; otherwise private parts are left out.

    Raises:
        ConfigError: no such file, or a key in it that is none.
    """
    entries = read_key_set(path)
    if not 0 < len(entries) <= MAX_KEYS:
        raise ConfigError(f"{path} holds {len(entries)} keys", hint=f"it needs 1 to {MAX_KEYS}")
    keys: dict[str, jwt.PyJWK] = {}
    for entry in entries:
        kid, algorithm = entry.get("kid"), entry.get("alg")
        if not isinstance(kid, str) or not kid or kid in keys or algorithm not in ALGORITHMS:
            raise ConfigError(
                f"a key in {path} has no kid of its own, or an alg that is none of {', '.join(ALGORITHMS)}"
            )
        if not private:
            entry = {name: value for name, value in entry.items() if name not in PRIVATE_FIELDS}
        try:
            key = keys[kid] = jwt.PyJWK(entry)
        except jwt.exceptions.MissingCryptographyError:
            raise ConfigError(
                f"key {kid} in {path} needs cryptography", hint='pip install "layercast[ops]"'
            ) from None
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"key {kid} in {path} is damaged: {error}") from None
        if algorithm == "HS256" and len(key.key) < MIN_SECRET_BYTES:
            raise ConfigError(f"key {kid} in {path} is shorter than {MIN_SECRET_BYTES} bytes")
    return keys


def read_key_set(path: Path) -> list[dict[str, Any]]:
    """The `keys` of a JWK Set file, unchecked objects.

    Raises:
        ConfigError: no such file, or it is no JWK Set.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_KEYS_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read the token keys {path}: {error.strerror}", hint="make some: layercast token key"
        ) from None
    try:
        entries = json.loads(data)["keys"] if len(data) <= MAX_KEYS_BYTES else None
    except (ValueError, TypeError, KeyError, RecursionError):
        entries = None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{path} is no JWK Set", hint='it is JSON: {"keys": [...]}')
    return entries


def generate_key(kid: str, algorithm: str) -> dict[str, Any]:
    """A new key as a JWK, with its private part.

    Raises:
        ConfigError: no such algorithm, or it needs a package that is not installed.
    """
    if algorithm == "HS256":
        secret = base64.urlsafe_b64encode(secrets.token_bytes(MIN_SECRET_BYTES)).rstrip(b"=").decode()
        return {"kty": "oct", "kid": kid, "alg": algorithm, "use": "sig", "k": secret}
    if algorithm not in ALGORITHMS:
        raise ConfigError(f"no algorithm {algorithm!r}", hint=f"it is one of {', '.join(ALGORITHMS)}")
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
    except ImportError:
        raise ConfigError(f"{algorithm} needs cryptography", hint='pip install "layercast[ops]"') from None
    if algorithm == "EdDSA":
        entry = jwt.algorithms.OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate(), as_dict=True)
    else:
        private = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        entry = jwt.algorithms.RSAAlgorithm.to_jwk(private, as_dict=True)
        del entry["key_ops"]  # says "sign", and would stay when the private part goes
    return {**entry, "kid": kid, "alg": algorithm, "use": "sig"}


def mint(
    key: jwt.PyJWK,
    stream: str,
    right: str,
    lifetime_s: float,
    subject: str = "",
    clock: Callable[[], float] = time.time,
) -> str:
    """A token that allows `right` (one of RIGHTS) on the streams that match `stream`, for `lifetime_s` from now.

    Raises:
        ConfigError: no such right, an impossible pattern, or a key without its private part.
    """
    if right not in RIGHTS or not STREAM_PATTERN.fullmatch(stream) or lifetime_s <= 0:
        raise ConfigError(
            f"impossible token: {right} on {stream!r} for {lifetime_s} s",
            hint=f"the right is one of {', '.join(RIGHTS)}, * in the stream stands for any characters",
        )
    now_s = int(clock())
    claims = {"stream": stream, "right": right, "iat": now_s, "exp": now_s + max(1, int(lifetime_s))}
    if subject:
        claims["sub"] = subject
    try:
        return jwt.encode(claims, key.key, key.algorithm_name, headers={"kid": key.key_id})
    except (jwt.PyJWTError, TypeError, AttributeError):
        raise ConfigError(
            f"key {key.key_id} cannot sign", hint="use the file with the private keys"
        ) from None


def _same(one: jwt.PyJWK | None, other: jwt.PyJWK) -> bool:
    return one is not None and one._jwk_data == other._jwk_data
