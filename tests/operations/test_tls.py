"""TLS both ways round: who shows the right papers gets through, who does not is told which one is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.transport.harness import DESCRIPTION, live, take, unit

from layercast.bitstream import trim
from layercast.errors import AuthError, ConfigError, ConnectError, LayercastError
from layercast.transport.certificates import check_certificates, check_pair, validity
from layercast.transport.credentials import Credentials, ServerTls
from layercast.transport.receiver import Receiver
from layercast.transport.relay import Relay
from layercast.transport.sender import Sender

from .papers import DAY, Paper, paper


class Papers:
    """An authority, what it signed, and what it did not."""

    def __init__(self, folder: Path) -> None:
        self.authority = paper(folder, "authority")
        self.relay = paper(folder, "relay", self.authority)
        self.client = paper(folder, "client", self.authority)
        self.stranger = paper(folder, "stranger")
        self.strangers_client = paper(folder, "strangers-client", self.stranger)

    @property
    def trusting(self) -> Credentials:
        return Credentials(ca=self.authority.certificate)

    def showing(self, client: Paper) -> Credentials:
        return Credentials(ca=self.authority.certificate, certificate=client.certificate, key=client.key)


@pytest.fixture(scope="module")
def papers(tmp_path_factory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


def tls(relay: Paper, client_ca: Paper | None = None) -> ServerTls:
    return ServerTls(relay.certificate, relay.key, client_ca.certificate if client_ca else None)


async def round_trip(relay: Relay, credentials: Credentials) -> None:
    async with (
        Sender(relay.address, "cam", description=DESCRIPTION, credentials=credentials) as sender,
        Receiver(relay.address, "cam", decode=False, credentials=credentials) as receiver,
    ):
        await sender.ready(5)
        sent = unit(0)
        await sender.send_unit(sent)
        frame = (await take(receiver, 1))[0]
        assert frame.unit == trim(sent, frame.layers)


async def refusal(relay: Relay, credentials: Credentials | None) -> LayercastError:
    """What a receiver raises that is not let in; a connection that does not come about is given up at once."""
    async with Receiver(
        relay.address, "cam", decode=False, credentials=credentials, give_up_after_s=0.01
    ) as receiver:
        with pytest.raises(LayercastError) as caught:
            await take(receiver, 1)
        return caught.value


@live
async def _with(server: ServerTls, use) -> None:
    async with Relay(tls=server) as relay:
        await use(relay)


def test_frames_travel_through_tls(papers):
    _with(tls(papers.relay), lambda relay: round_trip(relay, papers.trusting))


def test_frames_travel_when_both_ends_show_a_certificate(papers):
    _with(tls(papers.relay, papers.authority), lambda relay: round_trip(relay, papers.showing(papers.client)))


def test_frames_travel_through_a_chain_of_relays_with_certificates(papers):
    @live
    async def chain() -> None:
        credentials = papers.showing(papers.client)
        async with (
            Relay(tls=tls(papers.relay, papers.authority)) as first,
            Relay(upstream=first.address, upstream_credentials=credentials) as second,
            Sender(first.address, "cam", description=DESCRIPTION, credentials=credentials) as sender,
            Receiver(second.address, "cam", decode=False) as receiver,
        ):
            await sender.ready(5)
            await sender.send_unit(unit(0))
            await take(receiver, 1)

    chain()


def test_a_relay_signed_by_a_stranger_is_not_trusted(papers):
    async def use(relay: Relay) -> None:
        for credentials in (Credentials(tls=True), Credentials(ca=papers.stranger.certificate)):
            error = await refusal(relay, credentials)
            assert isinstance(error, AuthError)
            assert "signed by nobody trusted here" in str(error)

    _with(tls(papers.relay), use)


def test_a_certificate_for_another_host_is_not_trusted_unless_its_name_is_given(papers, tmp_path):
    elsewhere = paper(tmp_path, "elsewhere", papers.authority, host="192.0.2.1")

    async def use(relay: Relay) -> None:
        error = await refusal(relay, papers.trusting)
        assert isinstance(error, AuthError)
        assert "for another name" in str(error)
        await round_trip(relay, Credentials(ca=papers.authority.certificate, server_name="192.0.2.1"))

    _with(tls(elsewhere), use)


def test_a_relays_certificate_that_expires_while_it_runs_is_named_by_the_client(
    papers, tmp_path, monkeypatch
):
    old = paper(tmp_path, "old", papers.authority, begins=-3 * DAY, ends=-DAY)
    monkeypatch.setattr("layercast.transport.certificates.time.time", lambda: old_s)
    old_s = old.signed.not_valid_after_utc.timestamp() - 1
    server = tls(old)

    @live
    async def late() -> None:
        async with Relay(tls=server) as relay:
            monkeypatch.undo()
            error = await refusal(relay, papers.trusting)
            assert isinstance(error, AuthError)
            assert "has expired" in str(error)

    late()


@pytest.mark.parametrize("shown", ["none", "a stranger's"])
def test_a_client_without_the_right_certificate_is_told_what_may_be_missing(papers, shown):
    credentials = papers.trusting if shown == "none" else papers.showing(papers.strangers_client)

    async def use(relay: Relay) -> None:
        error = await refusal(relay, credentials)
        assert isinstance(error, ConnectError)
        assert "client certificate" in error.hint
        assert relay.statistics().handshakes >= 1

    _with(tls(papers.relay, papers.authority), use)


def test_one_end_with_tls_and_the_other_without(papers):
    async def plain_client(relay: Relay) -> None:
        error = await refusal(relay, None)
        assert isinstance(error, ConnectError)
        assert "may want TLS" in str(error)

    _with(tls(papers.relay), plain_client)

    @live
    async def plain_relay() -> None:
        async with Relay() as relay:
            error = await refusal(relay, papers.trusting)
            assert isinstance(error, ConfigError)
            assert "speaks no TLS" in str(error)

    plain_relay()


def test_a_certificate_that_is_replaced_is_used_from_the_next_connection_on(papers, tmp_path):
    files = ServerTls(tmp_path / "now.pem", tmp_path / "now.key")

    def install(which: Paper) -> None:
        for source, target in ((which.certificate, files.certificate), (which.key, files.key)):
            shutil.copy(source, target.with_suffix(".new"))
            target.with_suffix(".new").replace(target)

    install(papers.relay)
    other = paper(tmp_path, "other", papers.stranger)

    async def use(relay: Relay) -> None:
        await round_trip(relay, papers.trusting)
        install(other)
        assert isinstance(await refusal(relay, papers.trusting), AuthError)
        await round_trip(relay, Credentials(ca=papers.stranger.certificate))
        files.certificate.write_text("no certificate")
        await round_trip(relay, Credentials(ca=papers.stranger.certificate))

    _with(files, use)


def test_files_that_are_of_no_use_are_named_before_anything_connects(papers, tmp_path):
    expired = paper(tmp_path, "expired", papers.authority, begins=-3 * DAY, ends=-DAY)
    early = paper(tmp_path, "early", papers.authority, begins=DAY, ends=3 * DAY)
    text = tmp_path / "text.pem"
    text.write_text("hello")
    hollow = tmp_path / "hollow.pem"
    hollow.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    good = papers.relay
    for certificate, key, said in (
        (tmp_path / "nowhere.pem", good.key, "cannot read the server certificate"),
        (good.certificate, tmp_path / "nowhere.key", "cannot read the key"),
        (expired.certificate, expired.key, "expired on"),
        (early.certificate, early.key, "valid from"),
        (text, good.key, "no PEM file"),
        (hollow, good.key, "holds no certificate"),
        (good.certificate, papers.client.key, "does not belong"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_pair(certificate, key, "server certificate")

    @live
    async def start_and_call() -> None:
        with pytest.raises(ConfigError, match="expired on"):
            await Relay(tls=tls(expired)).start()
        async with Relay(tls=tls(papers.relay, papers.authority)) as relay:
            error = await refusal(relay, papers.showing(expired))
            assert isinstance(error, ConfigError)
            assert "client certificate" in str(error)
            assert "expired on" in str(error)

    start_and_call()


def test_a_bundle_of_authorities_may_contain_old_ones(papers, tmp_path):
    old = paper(tmp_path, "old", begins=-3 * DAY, ends=-DAY)
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(old.certificate.read_bytes() + papers.authority.certificate.read_bytes())
    check_certificates(bundle, "authorities")
    with pytest.raises(ConfigError, match="expired"):
        check_certificates(old.certificate, "authorities")


def test_validity_is_what_cryptography_reads(papers):
    from cryptography.hazmat.primitives.serialization import Encoding

    for each in (papers.authority, papers.relay):
        signed = each.signed
        begin_s, end_s = validity(signed.public_bytes(Encoding.DER))
        assert begin_s == signed.not_valid_before_utc.timestamp()
        assert end_s == signed.not_valid_after_utc.timestamp()


def test_no_bytes_make_the_reader_of_certificates_do_more_than_refuse(papers):
    from cryptography.hazmat.primitives.serialization import Encoding

    der = papers.relay.signed.public_bytes(Encoding.DER)
    for at in range(len(der)):
        for changed in (der[:at], der[:at] + bytes([der[at] ^ 0x81]) + der[at + 1 :]):
            try:
                begin_s, end_s = validity(changed)
            except (ValueError, IndexError):
                continue
            assert isinstance(begin_s, float)
            assert isinstance(end_s, float)


def test_credentials_that_contradict_themselves_are_refused(tmp_path):
    for options in (
        {"certificate": tmp_path / "a"},
        {"key": tmp_path / "a"},
        {"token": "a", "token_file": tmp_path / "a"},
    ):
        with pytest.raises(ConfigError):
            Credentials(**options)
    for token in ("two words", "ünicode", "a\nb", "x" * 3000):
        with pytest.raises(ConfigError, match="the token is none"):
            Credentials(token=token).metadata()
    assert "secret" not in repr(Credentials(token="secret"))
