"""One name per setting: file, environment and flag, and the nearer one wins."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.transport.harness import DESCRIPTION, eventually, live, take, unit

from layercast.cli.main import build_parser, main
from layercast.cli.receive import ACCESS
from layercast.cli.relay import SETTINGS, make_limits, make_relay
from layercast.cli.settings import Setting, add_settings, credentials, resolve
from layercast.errors import ConfigError
from layercast.transport.limits import RelayLimits
from layercast.transport.relay import DRAIN_S

from .papers import Issuer, paper

ROOT = Path(__file__).parents[2]


def values(*flags: str, environ: dict[str, str] | None = None, command: str = "relay"):
    settings = SETTINGS if command == "relay" else ACCESS
    positional = ["--from", "127.0.0.1:1"] if command == "receive" else []
    return resolve(
        command, settings, build_parser().parse_args([command, *positional, *flags]), environ or {}
    )


@pytest.fixture
def file(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "settings.toml"
        path.write_text(text)
        return str(path)

    return write


def test_without_anything_the_defaults_are_those_of_the_library():
    plain = values()
    assert make_limits(plain) == RelayLimits()
    assert plain["drain"] == DRAIN_S
    assert plain["listen"] == "127.0.0.1:7400", "this machine only"


def test_flags_win_over_the_environment_and_the_environment_over_the_file(file):
    path = file("[relay]\nmax_streams = 1\nmax_subscribers = 1\nmax_connections = 1\n")
    environ = {"LAYERCAST_MAX_STREAMS": "2", "LAYERCAST_MAX_SUBSCRIBERS": "2", "LAYERCAST_CONFIG": "nowhere"}
    got = values("--config", path, "--max-streams", "3", environ=environ)
    assert (got["max_streams"], got["max_subscribers"], got["max_connections"]) == (3, 2, 1)
    assert values(environ={"LAYERCAST_CONFIG": path})["max_streams"] == 1


def test_a_switch_can_be_turned_off_again(file):
    path = file("[relay]\nreflection = true\n")
    assert values("--config", path)["reflection"] is True
    assert values("--config", path, environ={"LAYERCAST_REFLECTION": "off"})["reflection"] is False
    assert (
        values("--config", path, "--no-reflection", environ={"LAYERCAST_REFLECTION": "1"})["reflection"]
        is False
    )


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_has_the_same_name_in_all_three_places(file, setting: Setting):
    words = {"log_format": "json", "log_level": "debug", "listen": "127.0.0.1:9"}
    text = words.get(setting.name, "7")
    if setting.parse is None:
        text = "false" if setting.default else "true"
    stored = text if setting.parse is None or text == "7" else f'"{text}"'
    if setting.parse in (str, Path):
        stored = f'"{text}"'
    from_file = values("--config", file(f"[relay]\n{setting.name} = {stored}\n"))[setting.name]
    from_environment = values(environ={f"LAYERCAST_{setting.name.upper()}": text})[setting.name]
    name = setting.name.replace("_", "-")
    flags = [f"--{name}", text]
    if setting.parse is None:
        flags = [f"--no-{name}" if setting.default else f"--{name}"]
    assert values(*flags)[setting.name] == from_environment == from_file != setting.default


def test_quantities_may_be_written_short(file):
    path = file('[relay]\nmax_publish_bitrate = "20M"\nmax_unit_bytes = 1500000\n')
    limits = make_limits(values("--config", path))
    assert (limits.max_publish_bitrate, limits.max_unit_bytes) == (20e6, 1_500_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[relay]\nmax_stream = 1\n", "unknown setting 'max_stream' .did you mean 'max_streams'"),
        ("[relay]\nzzz = 1\n", "unknown setting 'zzz' .see `layercast relay --help`"),
        ("max_streams = 1\n", "no meaning for 'max_streams'"),
        ("[rely]\n", "no meaning for 'rely'"),
        ("[relay]\nmax_streams = 0\n", "'0' is no whole number"),
        ("[relay]\nmax_streams = true\n", "True is no N"),
        ("[relay]\nmax_streams = [1]\n", "is no N"),
        ("[relay]\nreflection = 'maybe'\n", "neither true nor false"),
        ("[relay]\nlog_level = 'loud'\n", "none of debug"),
        ("[relay\n", "is no TOML file"),
        ("a = " + "[" * 5000, "is no TOML file"),
    ],
)
def test_a_file_that_means_nothing_is_refused_with_the_place(file, text, said):
    with pytest.raises(ConfigError, match=said):
        values("--config", file(text))


def test_a_variable_that_means_nothing_is_named():
    with pytest.raises(ConfigError, match=r"LAYERCAST_DRAIN: 'soon' is not seconds"):
        values(environ={"LAYERCAST_DRAIN": "soon"})
    with pytest.raises(ConfigError, match="cannot read the settings nowhere"):
        values(environ={"LAYERCAST_CONFIG": "nowhere"})


def test_one_file_serves_all_commands(file):
    path = file('[relay]\nlisten = "0.0.0.0:7400"\n\n[receive]\ntoken_file = "/run/token"\n')
    assert values("--config", path)["listen"] == "0.0.0.0:7400"
    shown = credentials(values("--config", path, command="receive"))
    assert shown.token_file == Path("/run/token")
    assert not shown.encrypted


def test_an_unreadable_file_is_one_line_and_exit_code_2(file, capsys):
    assert main(["relay", "--config", file("[relay]\nlisten = 3.5\n")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "given",
    [("--certificate", "a.pem"), ("--key", "a.key"), ("--client-ca", "a.pem")],
    ids=lambda pair: pair[0],
)
def test_half_of_the_settings_for_tls_are_refused(given):
    with pytest.raises(ConfigError, match="certificate and its key"):
        make_relay(values(*given))


def test_help_shows_defaults_without_noise():
    parser = argparse.ArgumentParser()
    add_settings(parser, SETTINGS)
    text = " ".join(parser.format_help().split())
    assert "(default 256)" in text
    assert "(default )" not in text
    assert "(default None)" not in text


def test_the_page_lists_every_setting_and_the_shipped_file_is_valid():
    page = (ROOT / "docs" / "operations.md").read_text()
    for setting in SETTINGS:
        assert f"`{setting.name}`" in page or setting.name.startswith("upstream_"), setting.name
    shipped = values("--config", str(ROOT / "deploy" / "relay.toml"))
    assert shipped["token_keys"] is not None
    assert make_limits(shipped).max_publish_bitrate is not None


def test_the_commands_on_the_page_are_valid():
    page = (ROOT / "docs" / "operations.md").read_text()
    lines = re.findall(r"^layercast (.+?)(?:\s+#.*|\s+>.*)?$", page, re.MULTILINE)
    assert len(lines) >= 6
    for line in lines:
        build_parser().parse_args(line.replace("'", "").split())


def test_a_relay_with_everything_switched_on_by_a_file_serves_who_has_the_papers(tmp_path, file):
    authority = paper(tmp_path, "authority")
    server, client = paper(tmp_path, "relay", authority), paper(tmp_path, "client", authority)
    issuer = Issuer(tmp_path / "keys.json")
    token = tmp_path / "token"
    token.write_text(issuer.token("cam*", "both"))
    path = file(f"""
[relay]
listen = "127.0.0.1:0"
certificate = "{server.certificate}"
key = "{server.key}"
client_ca = "{authority.certificate}"
token_keys = "{issuer.path}"
metrics = "127.0.0.1:0"
reflection = true
log_format = "json"

[receive]
ca = "{authority.certificate}"
certificate = "{client.certificate}"
key = "{client.key}"
token_file = "{token}"
""")
    with subprocess.Popen(
        [sys.executable, "-m", "layercast.cli", "relay", "--config", path], stdout=subprocess.PIPE, text=True
    ) as relay:
        try:
            assert relay.stdout is not None
            address = relay.stdout.readline().split()[-1]
            assert relay.stdout.readline().startswith("metrics on port ")
            shown = credentials(values("--config", path, command="receive"))

            @live
            async def use() -> None:
                from layercast.transport.receiver import Receiver
                from layercast.transport.sender import Sender

                async with (
                    Sender(address, "cam1", description=DESCRIPTION, credentials=shown) as sender,
                    Receiver(address, "cam1", decode=False, credentials=shown) as receiver,
                ):
                    await sender.ready(10)
                    await sender.send_unit(unit(0))
                    await take(receiver, 1)
                    await eventually(lambda: sender.statistics().link.connected)

            use()
            options = ("--stream", "film", "--config", path, "--give-up-after", "5")
            refused = subprocess.run(
                [sys.executable, "-m", "layercast.cli", "receive", "--from", address, *options],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert refused.returncode == 6, "access refused"
            assert "the token is for 'cam*', not for 'film'" in refused.stderr
        finally:
            relay.terminate()
        assert relay.wait(20) == 0
