"""What a token opens, and what it does not."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest

from layercast.errors import ConfigError
from layercast.transport.credentials import MAX_TOKEN_BYTES
from layercast.transport.status import AccessError
from layercast.transport.tokens import (
    MAX_KEYS,
    PRIVATE_FIELDS,
    TokenKeys,
    generate_key,
    load_keys,
    mint,
    read_key_set,
)

from .papers import Issuer

NOW_S = 1_800_000_000.0


class WallClock:
    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


def why(keys: TokenKeys, token: str, stream: str = "cam1", right: str = "publish") -> str:
    """The reason of the refusal, "" if there is none."""
    try:
        keys.check(token, stream, right)
    except AccessError as error:
        return error.reason
    return ""


@pytest.mark.parametrize("algorithm", ["HS256", "EdDSA", "RS256"])
def test_a_token_opens_its_streams_with_its_right_until_it_expires(tmp_path, clock, algorithm):
    issuer = Issuer(tmp_path / "keys.json", algorithm=algorithm)
    keys = TokenKeys(issuer.path, clock)
    token = issuer.token("cam*", "publish", 60, subject="gate 4", clock=clock)
    grant = keys.check(token, "cam1", "publish")
    assert (grant.stream, grant.right, grant.expires_s, grant.subject) == (
        "cam*",
        "publish",
        NOW_S + 60,
        "gate 4",
    )
    assert why(keys, token, "film") == "wrong-stream"
    assert why(keys, token, "xcam1") == "wrong-stream"
    assert why(keys, token, right="subscribe") == "wrong-right"
    clock.now_s += 59
    assert why(keys, token) == ""
    assert keys.why_ended(grant) is None
    clock.now_s += 1
    assert why(keys, token) == "token-expired"
    assert keys.why_ended(grant).reason == "token-expired"


def test_both_is_both_and_a_name_is_only_itself(tmp_path, clock):
    issuer = Issuer(tmp_path / "keys.json")
    keys = TokenKeys(issuer.path, clock)
    token = issuer.token("cam1", "both", clock=clock)
    assert why(keys, token) == why(keys, token, right="subscribe") == ""
    assert why(keys, token, "cam12") == why(keys, token, "cam") == "wrong-stream"


@pytest.mark.parametrize("algorithm", ["EdDSA", "RS256"])
def test_the_public_half_checks_and_does_not_sign(tmp_path, clock, algorithm):
    issuer = Issuer(tmp_path / "private.json", algorithm=algorithm)
    public = [{name: entry[name] for name in entry if name not in PRIVATE_FIELDS} for entry in issuer.entries]
    (tmp_path / "public.json").write_text(json.dumps({"keys": public}))
    keys = TokenKeys(tmp_path / "public.json", clock)
    assert why(keys, issuer.token(clock=clock)) == ""
    with pytest.raises(ConfigError, match="cannot sign"):
        mint(load_keys(tmp_path / "public.json", private=True)["one"], "*", "both", 60)


def test_keys_are_rotated_without_a_gap_and_a_key_taken_away_ends_its_grants(tmp_path, clock):
    issuer = Issuer(tmp_path / "keys.json", "old")
    keys = TokenKeys(issuer.path, clock)
    first = issuer.token(clock=clock)
    grant = keys.check(first, "cam1", "publish")
    issuer.add("new")
    second = issuer.token(clock=clock)
    assert why(keys, second) == "unknown-key", "not read yet"
    keys.reload()
    assert why(keys, first) == why(keys, second) == ""
    assert keys.why_ended(grant) is None, "the key is still there"
    issuer.remove("old")
    keys.reload()
    assert why(keys, first) == "unknown-key"
    assert keys.why_ended(grant).reason == "unknown-key"
    assert why(keys, second) == ""


def test_another_key_of_the_same_name_is_another_key(tmp_path, clock):
    issuer = Issuer(tmp_path / "keys.json")
    keys = TokenKeys(issuer.path, clock)
    token = issuer.token(clock=clock)
    grant = keys.check(token, "cam1", "publish")
    issuer.write([generate_key("one", "HS256")])
    keys.reload()
    assert why(keys, token) == "bad-token"
    assert keys.why_ended(grant).reason == "unknown-key"


@pytest.mark.parametrize("text", ["", "{", '{"keys": []}', '{"keys": 3}', "[" * 100_000])
def test_a_damaged_key_file_changes_nothing(tmp_path, clock, text):
    issuer = Issuer(tmp_path / "keys.json")
    keys = TokenKeys(issuer.path, clock)
    token = issuer.token(clock=clock)
    issuer.path.write_text(text)
    keys.reload()
    assert why(keys, token) == ""
    issuer.path.unlink()
    keys.reload()
    assert why(keys, token) == ""


def encoded(part: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def test_forgeries_open_nothing(tmp_path, clock):
    issuer = Issuer(tmp_path / "keys.json")
    rsa = Issuer(tmp_path / "rsa.json", "rsa", algorithm="RS256")
    issuer.write([*issuer.entries, *rsa.entries])
    keys = TokenKeys(issuer.path, clock)
    claims = {"stream": "*", "right": "both", "exp": NOW_S + 60}
    head, body, signature = issuer.token(kid="one", clock=clock).split(".")
    modulus = jwt.utils.base64url_decode(rsa.entries[0]["n"])
    forged = {
        "unsigned": f"{encoded({'alg': 'none', 'kid': 'one'})}.{encoded(claims)}.",
        "other claims, same signature": f"{head}.{encoded(claims)}.{signature}",
        "the public RSA key as an HMAC secret": jwt.encode(claims, modulus, "HS256", headers={"kid": "rsa"}),
        "half a signature": f"{head}.{body}.{signature[:10]}",
        "no token": "abc",
        "two dots": "..",
        "nothing": "",
        "too long": f"{head}.{body}.{signature}" + "A" * MAX_TOKEN_BYTES,
    }
    assert {name: why(keys, token) for name, token in forged.items()} == dict.fromkeys(forged, "bad-token")
    secret = jwt.PyJWK(generate_key("one", "HS256"))
    assert why(keys, mint(secret, "*", "both", 60, clock=clock)) == "bad-token", "a key of the same name"
    assert why(keys, jwt.encode(claims, secret.key, "HS256")) == "unknown-key", "no name of a key"
    assert why(keys, jwt.encode(claims, secret.key, "HS256", headers={"kid": "two"})) == "unknown-key"


@pytest.mark.parametrize(
    "changes",
    [
        {"stream": None},
        {"stream": 3},
        {"stream": "[a-z]*"},
        {"stream": "*" * 65},
        {"right": None},
        {"right": "all"},
        {"right": ["both"]},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": float("inf")},
        {"nbf": NOW_S + 5},
        {"sub": 7},
    ],
    ids=str,
)
def test_claims_out_of_bounds_open_nothing(tmp_path, clock, changes):
    issuer = Issuer(tmp_path / "keys.json")
    keys = TokenKeys(issuer.path, clock)
    claims = {"stream": "*", "right": "both", "exp": NOW_S + 60, **changes}
    claims = {name: value for name, value in claims.items() if value is not None}
    key = load_keys(issuer.path)["one"]
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    token = jwt.PyJWS().encode(
        json.dumps(claims).encode(), key.key, "HS256", headers={"kid": "one", "typ": "JWT"}
    )
    assert body.decode() in token
    assert why(keys, token) == "bad-token"


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [{}],
        [{"kty": "oct", "kid": "a", "k": "A" * 43}],
        [{"kty": "oct", "kid": "a", "alg": "none", "k": "A" * 43}],
        [{"kty": "oct", "kid": "a", "alg": "HS256", "k": "c2hvcnQ"}],
        [{"kty": "oct", "kid": "a", "alg": "HS256"}],
        [{"kty": "RSA", "kid": "a", "alg": "HS256", "n": "AQAB", "e": "AQAB"}],
        [{"kty": "OKP", "kid": "a", "alg": "EdDSA", "crv": "Ed25519", "x": "AA"}],
        [generate_key("a", "HS256")] * 2,
        [generate_key(str(number), "HS256") for number in range(MAX_KEYS + 1)],
    ],
    ids=lambda entries: f"{len(entries)} keys",
)
def test_key_files_that_are_none_are_refused(tmp_path, entries):
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": entries}))
    with pytest.raises(ConfigError):
        TokenKeys(path)


def layercast(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "layercast.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_makes_keys_and_tokens(tmp_path: Path):
    private, public = tmp_path / "private.json", tmp_path / "public.json"
    layercast("token", "key", "--keys", private, "--id", "jan", "--algorithm", "EdDSA")
    layercast("token", "key", "--keys", private, "--id", "feb", "--algorithm", "EdDSA")
    assert private.stat().st_mode & 0o777 == 0o600
    public.write_text(layercast("token", "public", "--keys", private))
    assert not any(set(entry) & set(PRIVATE_FIELDS) for entry in read_key_set(public))
    token = layercast(
        "token", "mint", "--keys", private, "--stream", "cam*", "--right", "subscribe", "--for", "12h"
    ).strip()
    assert jwt.get_unverified_header(token)["kid"] == "feb", "the newest key signs"
    grant = TokenKeys(public).check(token, "cam1", "subscribe")
    assert grant.right == "subscribe"


def test_hs256_needs_no_cryptography(tmp_path):
    issuer = Issuer(tmp_path / "keys.json")
    Issuer(tmp_path / "rsa.json", algorithm="RS256")
    program = f"""
import sys
sys.modules["cryptography"] = None
from pathlib import Path
from layercast.errors import ConfigError
from layercast.transport.tokens import TokenKeys
assert TokenKeys(Path({str(issuer.path)!r})).check({issuer.token()!r}, "cam", "publish").right == "both"
try:
    TokenKeys(Path({str(tmp_path / "rsa.json")!r}))
except ConfigError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 'pip install "layercast[ops]"' in done.stdout
