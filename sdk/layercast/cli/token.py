"""`layercast token`: make the keys that a relay accepts, and the tokens that they sign."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path

from layercast.cli.arguments import add_command
from layercast.errors import ConfigError

EXAMPLES = """\
  layercast token key --keys keys.json --id 2026-01                   (a secret; the relay gets the same file)
  layercast token mint --keys keys.json --stream 'cam*' --right publish --for 30d
  layercast token mint --keys keys.json --stream cam1 --right subscribe --for 12h --subject alice

With --algorithm EdDSA or RS256 the relay only gets the public half, and cannot make tokens itself:
  layercast token key --keys private.json --id 2026-01 --algorithm EdDSA
  layercast token public --keys private.json > relay-keys.json

To rotate: add a key, give the relay the file, mint with the new key (the last one is used), and take the old key
out of the file when its last token has expired, or at once to end the calls of everybody who holds one."""

_DURATION = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> int:
    """ "90s", "15m", "12h" or "30d" in seconds."""
    match = _DURATION.fullmatch(text)
    value = int(match[1]) * _SECONDS[match[2]] if match else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 15m, 12h or 30d")
    return value


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands, "token", "make keys, and tokens that name a stream and a right", EXAMPLES, run
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    key = actions.add_parser("key", help="add a new key to a file, or begin one")
    key.add_argument("--id", required=True, metavar="ID", help="name of the key, e.g. the month")
    key.add_argument("--algorithm", default="HS256", metavar="A", help="HS256 (default), EdDSA or RS256")

    mint = actions.add_parser("mint", help="print a token")
    mint.add_argument("--stream", required=True, metavar="NAME", help="* stands for any characters")
    mint.add_argument("--right", required=True, metavar="R", help="publish, subscribe or both")
    mint.add_argument(
        "--for", dest="lifetime", type=duration, required=True, metavar="T", help="e.g. 12h or 30d"
    )
    mint.add_argument("--subject", default="", metavar="WHO", help="for the relay's log")
    mint.add_argument("--id", metavar="ID", help="key to sign with (default: the last in the file)")

    public = actions.add_parser("public", help="print the keys without their private half")
    for action in (key, mint, public):
        action.add_argument("--keys", type=Path, required=True, metavar="FILE", help="keys (a JWK Set)")


def run(args: argparse.Namespace) -> int:
    {"key": _key, "mint": _mint, "public": _public}[args.action](args)
    return 0


def _key(args: argparse.Namespace) -> None:
    from layercast.transport.tokens import MAX_KEYS, generate_key, load_keys, read_key_set

    present = read_key_set(args.keys) if args.keys.exists() else []
    if present and args.id in load_keys(args.keys):
        raise ConfigError(f"{args.keys} has a key {args.id} already", hint="choose another --id")
    if len(present) >= MAX_KEYS:
        raise ConfigError(f"{args.keys} has {MAX_KEYS} keys", hint="take old ones out")
    text = json.dumps({"keys": [*present, generate_key(args.id, args.algorithm)]}, indent=2)
    # Replaced as a whole, so that a relay never reads half a file; secret from the first byte on.
    draft = args.keys.with_name(args.keys.name + ".new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text + "\n")
    os.replace(draft, args.keys)
    print(f"{args.keys}: {len(present) + 1} keys, the last one is {args.id}")


def _mint(args: argparse.Namespace) -> None:
    from layercast.transport.tokens import load_keys, mint

    keys = load_keys(args.keys, private=True)
    kid = args.id or list(keys)[-1]
    if kid not in keys:
        raise ConfigError(f"{args.keys} has no key {kid}", hint=f"it has {', '.join(keys)}")
    print(mint(keys[kid], args.stream, args.right, args.lifetime, args.subject))


def _public(args: argparse.Namespace) -> None:
    from layercast.transport.tokens import PRIVATE_FIELDS, load_keys, read_key_set

    load_keys(args.keys)
    entries = read_key_set(args.keys)
    if any(entry["alg"] == "HS256" for entry in entries):
        raise ConfigError("an HS256 key has no public half", hint="give the relay the file itself")
    public = [{name: entry[name] for name in entry if name not in PRIVATE_FIELDS} for entry in entries]
    print(json.dumps({"keys": public}, indent=2))
