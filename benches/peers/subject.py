#!/usr/bin/env python3
"""gateward as a subject of bench.py: writes the configs into the work folder, and a description of each for bench.py.

    subject.py BENCH WORK BINARY

BENCH is the folder of bench.py, whose material the configs name. `gateward` has a listener for each kind of work and no
access log; `gateward+log` is another process, which writes one. One worker carries the requests. HTTP/2 is not measured.
"""

import json
import pathlib
import shlex
import socket
import subprocess
import sys

PORTS = {
    "gateward": {"plain": 21110, "HS256": 21112, "RS256": 21111, "ES256": 21111, "EdDSA": 21111, "guarded": 21114, "apikey": 21115, "tls": 21116, "handshake": 21116},
    "gateward+log": {"log": 21118},
}
ADMIN = {"gateward": 21119, "gateward+log": 21120}
# A limit that never refuses, also for first verifications.
NEVER = "1000000000 per 1s"

HEAD = """\
[server]
workers = 1
[admin]
address = "127.0.0.1:{admin}"
[store]
url = "sqlite:{work}/{name}.db"
encryption_key_file = "{work}/{name}.key"
[log]
level = "warn"
access = "{access}"
[[upstream]]
name = "items"
servers = ["http://127.0.0.1:{upstream}"]
"""
LISTENER = """\
[[listener]]
name = "{name}"
address = "127.0.0.1:{port}"
limits = {{ cold_verifications = "{never}", connections = 100000 }}
timeouts = {{ idle = "300s" }}
{more}
"""
# As the peers: TLS 1.3 alone.
TLS = 'tls = {{ certificates = [{{ cert_file = "{work}/tls.crt", key_file = "{work}/tls.key" }}], min_version = "1.3" }}'
API = """\
[[api]]
name = "{name}"
listener = "{name}"
upstream = "items"
contract = "native"
endpoints = "none"
realm = "bench"
public_url = "http://{name}.bench"
"""
ISSUER = """\
[[api.issuer]]
issuer = "https://auth.example.com/"
audience = ["gateway"]
types = ["JWT"]
{keys}
"""
IDENTITY = """\
[api.identity]
headers = {{ "X-User" = "{who}" }}
credential = "{credential}"
"""
ROUTE = """\
[[api.route]]
name = "{name}"
path = "{path}"
methods = ["GET"]
{rules}
"""
LIMIT = """\
[[api.limit]]
name = "{name}"
per = ["{per}"]
quota = "{never}"
"""


def api(name, port, body, more=""):
    """A listener and the API behind it. Listeners stand before all APIs in the file: the order is TOML's only."""
    return LISTENER.format(name=name, port=port, never=NEVER, more=more), API.format(name=name) + body


def routes(rules):
    """What the bench asks for: more closely matched than the contract's own routes, which ask for a scope."""
    paths = {"items": "/api/{**rest}", "echo": "/echo"}
    return "".join(ROUTE.format(name=name, path=path, rules=rules) for name, path in paths.items())


def tokens(keys, rules=""):
    identity = IDENTITY.format(who="account.id", credential="keep")
    return identity + ISSUER.format(keys=keys) + routes('accept = ["jwt"]\n' + rules)


def limit(name, per):
    return LIMIT.format(name=name, per=per, never=NEVER)


def works(work):
    """Each kind of work. Credentials are passed on or taken away as the peers do it."""
    ports = PORTS["gateward"]
    public_keys = f'jwks_file = "{work}/jwks.json"'
    networks = json.dumps((work / "cidrs.txt").read_text().split())
    guards = f'allow_ips = {networks}\nlimits = ["subjects"]'
    keys = IDENTITY.format(who="key.name", credential="strip") + routes('accept = ["api_key"]\nlimits = ["clients"]')
    yield api("plain", ports["plain"], routes("public = true"))
    yield api("tls", ports["tls"], routes("public = true"), TLS.format(work=work))
    yield api("tokens", ports["RS256"], tokens(public_keys))
    yield api("secret", ports["HS256"], tokens(f'secret_file = "{work}/hs.key"'))
    yield api("guarded", ports["guarded"], tokens(public_keys, guards) + limit("subjects", "account"))
    yield api("keys", ports["apikey"], keys + limit("clients", "key"))


def import_keys(work, config, binary):
    """The keys of the bench, each with its client's name, all of one account."""
    lines = work / "keys.jsonl"
    with lines.open("w") as out:
        for line in (work / "apikeys.map").read_text().splitlines():
            key, client = line.split()
            out.write(json.dumps({"owner": "clients", "name": client, "value": key}) + "\n")
    lines.chmod(0o600)
    of_realm = ["--config", config, "--realm", "bench"]
    password = {"input": "nobody logs in here", "text": True}
    add = [binary, "user", "add", "clients", "--role", "viewer", "--password-stdin", *of_realm]
    subprocess.run(add, check=True, stdout=subprocess.DEVNULL, **password)
    subprocess.run([binary, "key", "import", lines, "--api", "keys", *of_realm], check=True, stdout=subprocess.DEVNULL)


def write(name, work, upstream, binary):
    parts = [api("log", PORTS[name]["log"], routes("public = true"))] if name == "gateward+log" else list(works(work))
    access = "json" if name == "gateward+log" else "off"
    text = HEAD.format(work=work, name=name, upstream=upstream, admin=ADMIN[name], access=access)
    config = work / f"{name}.toml"
    config.write_text(text + "".join(listener for listener, _ in parts) + "".join(body for _, body in parts))
    for old in work.glob(f"{name}.db*"):
        old.unlink()
    subprocess.run([binary, "check", config], check=True)
    if access == "off":
        import_keys(work, config, binary)
    serve = f'exec {shlex.quote(binary)} serve --config "{config}"'
    if access == "json":
        # As Envoy's: each line is made and written, and nobody keeps it.
        serve += " >/dev/null"
    (work / f"{name}.json").write_text(json.dumps({"name": name, "command": ["sh", "-c", serve], "ports": PORTS[name]}))


def refuse_taken(ports):
    """A proxy of an earlier run would answer in place of the one that is measured."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                sys.exit(f"port {port} is taken, perhaps by an earlier run that was cut off: {error}")


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    bench, work, binary = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    sys.path.insert(0, bench)
    import material
    import peers

    known = [*peers.PORTS.values(), *PORTS.values()]
    refuse_taken({peers.UPSTREAM, *ADMIN.values(), *(port for ports in known for port in ports.values())})
    material.make(work)
    # A secret that others may read is refused.
    (work / "hs.key").chmod(0o600)
    for name in PORTS:
        write(name, work, peers.UPSTREAM, binary)


if __name__ == "__main__":
    main()
