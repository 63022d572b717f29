"""Settings that come from a TOML file, the environment or flags, under the same names; flags win over the
environment, the environment over the file.

`max_subscribers` is `max_subscribers = 200` under `[relay]` in the file, `LAYERCAST_MAX_SUBSCRIBERS=200`, and
`--max-subscribers 200`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layercast.errors import ConfigError

if TYPE_CHECKING:
    from layercast.transport.credentials import Credentials

SECTIONS = ("relay", "send", "receive")
"""Commands that a file may have settings for; one file may serve all of them."""

PREFIX = "LAYERCAST_"

MAX_FILE_BYTES = 1 << 20
"""Largest settings file in bytes; a full one has two thousand."""

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set.

    Attributes:
        name: in the file.
        parse: from text; raises argparse.ArgumentTypeError. None: the setting is on or off.
        metavar: what stands for the value in the help.
        help: one line, without the default.
        default: when nobody sets it.
        group: heading in the help.
    """

    name: str
    parse: Callable[[str], Any] | None
    metavar: str
    help: str
    default: Any = None
    group: str = "options"

    @property
    def variable(self) -> str:
        """Name in the environment."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """On the command line."""
        return "--" + self.name.replace("_", "-")


def add_settings(parser: argparse.ArgumentParser, settings: Sequence[Setting]) -> None:
    """Flags for `settings`, and --config."""
    parser.add_argument(
        "--config", metavar="FILE", help="settings in TOML; every flag of this kind is also LAYERCAST_NAME"
    )
    groups: dict[str, Any] = {"options": parser}
    for setting in settings:
        group = groups.get(setting.group)
        if group is None:
            group = groups[setting.group] = parser.add_argument_group(setting.group)
        default = "on" if setting.default is True else setting.default
        text = setting.help + (f" (default {default})" if default else "")
        kind: dict[str, Any] = {"type": setting.parse, "metavar": setting.metavar}
        if setting.parse is None:
            kind = {"action": argparse.BooleanOptionalAction}
        group.add_argument(
            setting.flag, dest=setting.name, default=None, help=text.replace("%", "%%"), **kind
        )


def resolve(
    section: str,
    settings: Sequence[Setting],
    args: argparse.Namespace,
    environ: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The value of each of `settings`, by name.

    Args:
        section: the command's in the file.
        settings: as given to `add_settings`.
        args: the flags.
        environ: os.environ by default.

    Raises:
        ConfigError: a file that cannot be read, an unknown name in it, or a value that is none.
    """
    environ = os.environ if environ is None else environ
    path = args.config or environ.get(PREFIX + "CONFIG")
    stored = read_section(Path(path), section, settings) if path else {}
    values: dict[str, Any] = {}
    for setting in settings:
        given = getattr(args, setting.name)
        if given is None and setting.variable in environ:
            given = _value(setting, environ[setting.variable], setting.variable)
        if given is None and setting.name in stored:
            given = _value(setting, stored[setting.name], f"{setting.name} in {path}")
        values[setting.name] = setting.default if given is None else given
    return values


def read_section(path: Path, section: str, settings: Sequence[Setting]) -> dict[str, Any]:
    """One command's table in a settings file; empty if it has none.

    Raises:
        ConfigError: the file cannot be read, or holds a name that means nothing.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        tables = tomllib.loads(data.decode()) if len(data) <= MAX_FILE_BYTES else {}
    except OSError as error:
        raise ConfigError(f"cannot read the settings {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is no TOML file: {error}") from None
    for name, table in tables.items():
        if name not in SECTIONS or not isinstance(table, dict):
            raise ConfigError(
                f"{path} has no meaning for {name!r}",
                hint=f"settings stand under {', '.join(f'[{known}]' for known in SECTIONS)}",
            )
    stored: dict[str, Any] = tables.get(section, {})
    known = [setting.name for setting in settings]
    for name in stored:
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, 1)
            raise ConfigError(
                f"[{section}] in {path} has an unknown setting {name!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"see `layercast {section} --help`",
            )
    return stored


def _value(setting: Setting, given: Any, where: str) -> Any:
    if setting.parse is None:
        text = str(given).lower()
        if text not in (*_TRUE, *_FALSE):
            raise ConfigError(f"{where}: {given!r} is neither true nor false")
        return text in _TRUE
    if not isinstance(given, str | int | float) or isinstance(given, bool):
        raise ConfigError(f"{where}: {given!r} is no {setting.metavar}")
    try:
        return setting.parse(str(given))
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from None


def credentials_settings(prefix: str = "", group: str = "access") -> tuple[Setting, ...]:
    """What one end shows to the relay that it connects to; `credentials` makes use of the values."""
    return (
        Setting(prefix + "tls", None, "", "encrypt, and check the relay's certificate", False, group),
        Setting(prefix + "ca", Path, "FILE", "authorities to trust (PEM); turns TLS on", None, group),
        Setting(prefix + "certificate", Path, "FILE", "certificate to show (PEM); turns TLS on", None, group),
        Setting(prefix + "key", Path, "FILE", "its private key (PEM)", None, group),
        Setting(
            prefix + "server_name", str, "NAME", "name in the relay's certificate, if not the host", "", group
        ),
        Setting(
            prefix + "token",
            str,
            "TOKEN",
            "from the relay's operator; other users of this machine can see flags",
            "",
            group,
        ),
        Setting(
            prefix + "token_file", Path, "FILE", "file with the token, read for every connection", None, group
        ),
    )


def credentials(values: Mapping[str, Any], prefix: str = "") -> Credentials:
    """From resolved `credentials_settings`.

    Raises:
        ConfigError: see Credentials.
    """
    from layercast.transport.credentials import Credentials

    names = ("tls", "ca", "certificate", "key", "server_name", "token", "token_file")
    return Credentials(**{name: values[prefix + name] for name in names})
