"""Calls over HTTP: proxies, credentials in addresses, certificates, and bodies of any size."""

import asyncio
import base64
import json
import shutil
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.endpoints import PathServer
from tests.support.loopback import LoopbackServer
from tests.support.servers import Body, Canned, FaultServer, http_response
from trustescalate.errors import ProviderError
from trustescalate.judges.completions import Answer
from trustescalate.judges.http_transport import http_route, proxy_for
from trustescalate.judges.transport import Call

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, *map(str.upper, PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def send(address: str, call: Call) -> Answer:
    async def main() -> Answer:
        transport = http_route("m", address, None, concurrency=1).connect()
        try:
            return await transport.send(call, 10.0)
        finally:
            await transport.close()

    return asyncio.run(main())


def name_it(method: str, path: str, body: Body) -> Canned:
    return Canned(200, {"asked": f"{method} {path}", "body": len(json.dumps(body))})


@pytest.mark.parametrize("written", ["http://user:secret@{}", "{}"])
def test_a_proxy_of_the_environment_takes_the_call(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with PathServer(name_it) as proxy:
        monkeypatch.setenv("HTTP_PROXY", written.format(proxy.root.removeprefix("http://")))
        answer = send("http://judge.invalid:8000/v1", Call("GET", "/models", params={"limit": "7"}))
    assert json.loads(answer.content)["asked"] == "GET http://judge.invalid:8000/v1/models?limit=7"


def test_no_proxy_is_used_where_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with PathServer(name_it) as server:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert send(server.url, Call("GET", "/models")).status == 200


def test_a_proxy_that_cannot_be_reached_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@127.0.0.1:1")
    answer = send("http://judge.invalid/v1", Call("GET", "/models"))
    assert answer.failed == "unreachable"
    assert "nothing listens at the proxy http://127.0.0.1:1" in answer.why
    assert "secret" not in answer.why


def test_a_proxy_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with PathServer(lambda method, path, body: Canned(407, {})) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.root)
        answer = send("https://judge.invalid/v1", Call("GET", "/models"))
    assert answer.why == f"the proxy {proxy.root} answers with HTTP 407"
    assert proxy.paths == ["CONNECT judge.invalid:443"]


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("socks5://user:secret@127.0.0.1:1080", "socks5://127.0.0.1:1080"),
        ("http://127.0.0.1:99999", "of the environment"),
        ("http://[bad", "of the environment"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_an_error(
    proxy: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ProviderError) as error:
        http_route("m", "https://judge.invalid/v1", None, concurrency=1)
    assert str(error.value).startswith(f"m: the proxy {shown} is no HTTP proxy")
    assert error.value.hint == "set HTTPS_PROXY to one, or NO_PROXY to judge.invalid"


def test_the_host_of_a_proxy_that_is_unknown_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@proxy.invalid:3128")
    answer = send("http://judge.invalid/v1", Call("GET", "/models"))
    assert "proxy.invalid:3128" in answer.why
    assert "secret" not in answer.why


def test_other_proxies_of_the_environment_are_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-own")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "api.openai.com,localhost:8000")
    http_route("m", None, None, concurrency=1)
    assert proxy_for("http://localhost:8000/v1") is None
    assert proxy_for("http://localhost:8001/v1") == "socks5://127.0.0.1:1"


@pytest.mark.parametrize(
    ("written", "sent", "secret"),
    [
        ("user:word@", "user:word", ""),
        ("user:p%E2%82%ACssword@", "user:p€ssword", "p€ssword"),
        ("user@", "user:", ""),
        ("@", None, ""),
    ],
)
def test_credentials_in_an_address_take_the_place_of_a_key(
    written: str, sent: str | None, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short password is no secret in texts: it may be a verdict."""
    monkeypatch.setenv("JUDGE_KEY", "sk-own")
    with FaultServer() as server:
        address = server.url.replace("http://", f"http://{written}")
        body = json.dumps({"model": "m", "messages": []}).encode()
        route = http_route("m", address, "JUDGE_KEY", concurrency=1)
        send(address, Call("POST", "/chat/completions", lambda: body))
    (headers,) = server.stats.headers
    basic = "Bearer no-key-needed" if sent is None else f"Basic {base64.b64encode(sent.encode()).decode()}"
    assert headers["authorization"] == basic
    assert route.secrets == (("sk-own", secret) if secret else ("sk-own",))
    assert route.place == server.url


@pytest.mark.parametrize("size", [0, 3 * 2**20])
def test_a_body_arrives_whole(size: int) -> None:
    body = json.dumps({"text": "x" * size}).encode()
    with PathServer(name_it) as server:
        answer = send(server.url, Call("POST", "/chat/completions", lambda: body))
    assert json.loads(answer.content)["body"] == len(body)


# ── certificates ─────────────────────────────────────────────────────────────────────────────────


class SecureServer(LoopbackServer):
    """Speaks TLS with a certificate that nobody but the test trusts."""

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http_response(Canned(200, {})))
        await writer.drain()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    made = {"keyout": folder / "key.pem", "out": folder / "certificate.pem"}
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = [part for name, path in made.items() for part in (f"-{name}", str(path))]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    return made


@pytest.mark.parametrize("trusted", [False, True])
def test_a_server_is_believed_with_a_trusted_certificate_alone(
    certificate: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate["out"], certificate["keyout"])
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate["out"]))
    with SecureServer(ssl=context) as server:
        answer = send(server.url.replace("http:", "https:"), Call("GET", "/models"))
    assert answer.status == (200 if trusted else 0)
    assert trusted or "TLS: the certificate of https://127.0.0.1" in answer.why


def test_certificates_that_cannot_be_read_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    with pytest.raises(ProviderError, match="trusted certificates cannot be read") as error:
        send("https://127.0.0.1:1/v1", Call("GET", "/models"))
    assert error.value.hint == "correct SSL_CERT_FILE, or unset it"


# ── imports ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("address", "imported"), [("http://localhost:8000/v1", False), (None, True)])
def test_the_openai_package_is_imported_for_its_own_address_alone(address: Any, imported: bool) -> None:
    script = (
        "import sys; from trustescalate.judges.http_transport import http_route\n"
        f"http_route('m', {address!r}, None, concurrency=1); sys.exit('openai' in sys.modules)"
    )
    environment = {"OPENAI_API_KEY": "sk-own", "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert done.returncode == imported
