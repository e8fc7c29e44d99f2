#!/usr/bin/env python3
"""The load that a shipped build is trained with: what gateways do all day, in about the shares in which they do it.

    train.py BINARY

Starts the gateward that is given in front of a small upstream, both on loopback and in a folder of their own, sends public
requests, tokens, API keys and refusals, and ends with a failure when any answer is not the expected one.
"""

import asyncio
import base64
import json
import pathlib
import subprocess
import sys
import tempfile
import time

CONNECTIONS = 32
REQUESTS = 20_000
TOKENS = 50
ISSUER = "https://issuer.example.com/"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1024\r\nServer: upstream\r\n\r\n" + b'"' + b"a" * 1022 + b'"'
HEAD = (
    "{method} {path} HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: Mozilla/5.0 (train)\r\nAccept: application/json\r\n"
    "Accept-Encoding: gzip, deflate, br\r\nX-Trace: 1700000000\r\n{fields}\r\n"
)
CONFIG = """\
[server]
workers = 1
[[listener]]
name = "public"
address = "127.0.0.1:{port}"
limits = {{ cold_verifications = "1000000000 per 1s" }}
[admin]
address = "127.0.0.1:{admin}"
[store]
url = "sqlite:{folder}/gateward.db"
encryption_key_file = "{folder}/gateward.key"
[log]
level = "warn"
access = "{log}"
[[api]]
name = "api"
hosts = ["*"]
upstream = "http://127.0.0.1:{upstream}"
contract = "native"
public_url = "https://api.example.com"
[[api.issuer]]
issuer = "{issuer}"
audience = ["https://api.example.com"]
jwks_file = "{folder}/jwks.json"
types = ["JWT"]
[[api.route]]
name = "public"
path = "/public/{{**rest}}"
public = true
[[api.route]]
name = "guarded"
path = "/items/{{**rest}}"
accept = ["jwt", "api_key"]
allow_ips = {networks}
limits = ["callers"]
[[api.limit]]
name = "callers"
per = ["account"]
quota = "1000000000 per 1s"
"""


class Unexpected(Exception):
    pass


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*arguments, data=b""):
    return subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=True).stdout


def foreign_tokens(folder):
    """Tokens of an issuer whose key stands in jwks.json."""
    key = folder / "issuer.pem"
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(key))
    modulus = bytes.fromhex(openssl("rsa", "-in", str(key), "-modulus", "-noout").decode().strip().split("=")[1])
    jwk = {"kty": "RSA", "kid": "1", "use": "sig", "alg": "RS256", "n": b64(modulus), "e": "AQAB"}
    (folder / "jwks.json").write_text(json.dumps({"keys": [jwk]}))
    for number in range(TOKENS):
        header = {"alg": "RS256", "typ": "JWT", "kid": "1"}
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": "https://api.example.com", "sub": f"user-{number}", "iat": now, "exp": now + 3600,
                  "jti": f"{number}", "email": f"user-{number}@example.com", "note": "x" * 200}
        signed = ".".join(b64(json.dumps(part).encode()) for part in (header, claims))
        yield f"{signed}.{b64(openssl('dgst', '-sha256', '-sign', str(key), data=signed.encode()))}"


class Upstream(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.seen = transport, b""

    def data_received(self, data):
        self.seen += data
        while b"\r\n\r\n" in self.seen:
            head, _, self.seen = self.seen.partition(b"\r\n\r\n")
            length = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            self.seen = self.seen[sum(length):]
            self.transport.write(ANSWER)


async def ask(reader, writer, request):
    """One request; its status and body."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
    return int(head[9:12]), await reader.readexactly(length)


async def load(port, status, requests, count=REQUESTS):
    async def client(first):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(first, count, CONNECTIONS):
            got, body = await ask(reader, writer, requests[number % len(requests)])
            if got != status:
                raise Unexpected(f"{got} in place of {status}: {body.decode(errors='replace')}")
        writer.close()

    await asyncio.gather(*(client(first) for first in range(CONNECTIONS)))


def request(method, path, *fields, body=b""):
    fields = [*fields, *([f"Content-Length: {len(body)}", "Content-Type: application/json"] if body else [])]
    return HEAD.format(method=method, path=path, fields="".join(f"{field}\r\n" for field in fields)).encode() + body


async def train(binary, folder, log, tokens):
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Upstream, "127.0.0.1", 0)]
    spare = [await loop.create_server(asyncio.Protocol, "127.0.0.1", 0) for _ in range(2)]
    port, admin = (server.sockets[0].getsockname()[1] for server in spare)
    for server in spare:
        server.close()
    networks = [f"10.{n // 256}.{n % 256}.0/24" for n in range(0, 2000, 2)] + ["127.0.0.0/8"]
    config = folder / "gateway.toml"
    config.write_text(CONFIG.format(port=port, admin=admin, folder=folder, upstream=servers[0].sockets[0].getsockname()[1],
                                    issuer=ISSUER, networks=json.dumps(networks), log=log))
    command = lambda *arguments, **more: subprocess.run([binary, *arguments, "--config", config], check=True, text=True, **more)
    if not (folder / "added").exists():
        command("user", "add", "ann", "--role", "admin", "--password-stdin", input="correct horse battery", stdout=subprocess.DEVNULL)
        (folder / "added").touch()
    made = command("key", "create", "--owner", "ann", "--name", log, "--scope", "read", "--json", stdout=subprocess.PIPE)
    key = next(value for value in json.loads(made.stdout).values() if str(value).startswith("gw"))
    gateway = subprocess.Popen([binary, "serve", "--config", config], stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            except OSError:
                await asyncio.sleep(0.1)
        login = request("POST", "/auth/login", body=b'{"username":"ann","password":"correct horse battery"}')
        status, body = await ask(*await asyncio.open_connection("127.0.0.1", port), login)
        if status != 200:
            raise Unexpected(f"login answers {status}: {body.decode()}")
        own = json.loads(body)["access_token"]
        bearers = [request("GET", "/items/7?page=2", f"Authorization: Bearer {token}") for token in [own, *tokens]]
        await load(port, 200, [request("GET", "/public/items/7?page=2")], 2 * REQUESTS)
        await load(port, 200, bearers, 2 * REQUESTS)
        await load(port, 200, [request("GET", "/items/7?page=2", f"X-API-Key: {key}")])
        await load(port, 200, [request("POST", "/items/7", f"Authorization: Bearer {own}", body=b'{"name":"a"}')], REQUESTS // 4)
        await load(port, 401, [request("GET", "/items/7", f"Authorization: Bearer {own[:-9]}AAAAAAAAA")], REQUESTS // 20)
        await load(port, 401, [request("GET", "/items/7")], REQUESTS // 20)
    finally:
        gateway.terminate()
        gateway.wait()
        servers[0].close()


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        tokens = list(foreign_tokens(folder))
        try:
            for log in ("off", "json"):
                asyncio.run(train(binary, folder, log, tokens))
        except Unexpected as answer:
            sys.exit(f"train: {answer}")


if __name__ == "__main__":
    main()
