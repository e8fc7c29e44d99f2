#!/usr/bin/env python3
"""Memory of each proxy at rest and with idle keep-alive connections, each of which has had one request answered.

    benches/peers/run memory [--connections 10000] [--proxies REGEX]

Prints the resident set (VmRSS, all processes of the proxy) in MiB and what a connection added, in bytes. Kernel memory of the
sockets is not in it.
"""

import argparse
import json
import os
import pathlib
import re
import resource
import socket
import subprocess
import sys
import time

REQUEST = b"GET /api/v1/items?id=42 HTTP/1.1\r\nHost: gw.local\r\nUser-Agent: bench\r\nAccept: application/json\r\n\r\n"
BODY_BYTES = 1024
# HAProxy wants two files for each connection that it may hold, and some besides.
FILES_BESIDES = 100


def keep_alive(port):
    """A connection that has had one answer."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(REQUEST)
    seen = b""
    while not (b"\r\n\r\n" in seen and len(seen.partition(b"\r\n\r\n")[2]) >= BODY_BYTES):
        more = connection.recv(65536)
        if not more:
            raise RuntimeError(f"port {port} closed a connection after {len(seen)} bytes of its answer")
        seen += more
    if not seen.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"port {port} answered {seen[:40]!r}")
    return connection


def measure(proxy, connections):
    before = proxy.rss_mib()
    held = []
    try:
        for _ in range(connections):
            held.append(keep_alive(proxy.ports["plain"]))
        time.sleep(2)
        after = proxy.rss_mib()
    finally:
        for connection in held:
            connection.close()
    return before, after


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--subject", action="append", default=[])
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--proxies", default="haproxy|nginx|envoy|gateward")
    args = parser.parse_args()
    sys.path.insert(0, args.bench)
    import bench
    import peers

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    connections = min(args.connections, files // 2 - FILES_BESIDES)
    if connections < args.connections:
        print(f"{files} open files allow for {connections} connections", file=sys.stderr)
    work = pathlib.Path(os.environ["BENCH_WORK"])
    write_haproxy = peers.haproxy

    def haproxy(work):
        command = write_haproxy(work)
        config = work / "haproxy.cfg"
        config.write_text(re.sub(r"maxconn \d+", f"maxconn {connections + 10}", config.read_text()))
        return command

    peers.haproxy = haproxy
    subprocess.run(["cc", "-O2", "-o", work / "upstream", pathlib.Path(args.bench) / "upstream.c"], check=True)
    subprocess.run(["cc", "-O2", "-o", work / "relay", pathlib.Path(args.bench) / "relay.c"], check=True)
    subjects = [json.loads(pathlib.Path(path).read_text()) for path in args.subject]
    upstream = subprocess.Popen(["taskset", "-c", "1", work / "upstream", str(peers.UPSTREAM)])
    proxies = []
    try:
        with open(work / "proxies.log", "ab") as log:
            proxies = [proxy for proxy in bench.start(work, log, subjects) if proxy.name != "envoy+cache"]
        print(f"{'proxy':12} {'at rest, MiB':>13} {f'{connections} idle, MiB':>17} {'bytes each':>11}")
        for proxy in proxies:
            if "plain" in proxy.ports and re.fullmatch(args.proxies, proxy.name):
                before, after = measure(proxy, connections)
                print(f"{proxy.name:12} {before:13.1f} {after:17.1f} {(after - before) * 2**20 / connections:11.0f}")
    finally:
        for proxy in proxies:
            proxy.stop()
        upstream.terminate()


if __name__ == "__main__":
    main()
