"""Ten thousand clients that take their time, and one that does not (security case N1).

    python3 benches/slowloris.py GATEWARD [--connections 10000] [--readers 1000] [--seconds 40] [--phase NAME ...]

Starts an upstream, the gateway with its default timeouts, and one ordinary client with four connections. Then attackers
hold their connections open, one phase after the other, and open a new one for each that the gateway ends:

    idle       one request, then nothing
    head       one byte of a request's head every 10 s
    body       a request's head, then one byte of its body every 10 s
    read       asks for 10 MB and reads 2 KiB of it every 10 s

Prints a Markdown table: memory of the gateway, latency of the ordinary client, and CPU that the gateway took. Everything
is on loopback, bounded in connections (each process needs that many files, the gateway twice as many in `body` and `read`), in time
(90 s a phase) and in the kernel's memory for sockets.
"""

import argparse
import contextlib
import multiprocessing
import os
import pathlib
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

ANSWER = 10_000_000
CONFIG = """
[server]
workers = {workers}
[[listener]]
name = "public"
address = "127.0.0.1:{port}"
limits = {{ connections = 24000 }}
[admin]
address = "127.0.0.1:{admin}"
[log]
access = "off"
[[api]]
name = "bench"
upstream = "http://127.0.0.1:{upstream}"
contract = "native"
[[api.route]]
name = "open"
path = "/open/**"
public = true
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("gateward", type=pathlib.Path)
    arguments.add_argument("--connections", type=int, default=10_000)
    # Each takes the kernel's memory for sockets, of which the whole machine has one pool.
    arguments.add_argument("--readers", type=int, default=1_000)
    arguments.add_argument("--seconds", type=int, default=40)
    arguments.add_argument("--workers", type=int, default=os.cpu_count())
    arguments.add_argument("--phase", nargs="*", default=list(ATTACKERS), choices=list(ATTACKERS))
    options = arguments.parse_args()
    seconds = min(options.seconds, 90)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"load average before: {os.getloadavg()[0]:.1f}; workers: {options.workers}\n")
    for line in HEADINGS:
        print(line)
    for phase in ["none", *options.phase]:
        attacker = ATTACKERS.get(phase)
        # In two of them the gateway needs a file for each side.
        most = {"body": (hard - 400) // 2, "read": min(options.readers, (hard - 400) // 2)}.get(phase, hard - 400)
        count = min(options.connections, most)
        with gateway(options) as (pid, port):
            measure(pid, port, phase, attacker, count if attacker else 0, seconds)


@contextlib.contextmanager
def gateway(options):
    """A new one, so that no phase finds memory that another has left."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        upstream = listening(8192)
        running.callback(upstream.close)
        running.enter_context(process(serve_upstream, upstream))
        port, admin = free_port(), free_port()
        text = CONFIG.format(workers=options.workers, port=port, admin=admin, upstream=upstream.getsockname()[1])
        (pathlib.Path(folder) / "gateway.toml").write_text(text)
        command = [options.gateward.resolve(), "serve", "--config", "gateway.toml"]
        child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        running.callback(stop, child)
        wait_for(port)
        # What every gateway has once it has served anybody.
        ordinary_client(port, 1, multiprocessing.Queue())
        yield child.pid, port


def measure(pid: int, port: int, phase: str, attacker, count: int, seconds: int) -> None:
    before, peak, held, ended = rss(pid), 0, 0, 0
    kernel_before, kernel = socket_memory(), 0
    counters = multiprocessing.Array("q", 2)
    with contextlib.ExitStack() as running:
        if attacker:
            running.enter_context(process(attack, attacker, port, count, counters))
            deadline = time.monotonic() + 30
            while counters[0] < count * 0.95 and time.monotonic() < deadline:
                time.sleep(0.1)
        results = multiprocessing.Queue()
        victim = multiprocessing.Process(target=ordinary_client, args=(port, seconds, results), daemon=True)
        cpu, start = cpu_seconds(pid), time.monotonic()
        victim.start()
        while victim.is_alive() and results.empty():
            peak, held = max(peak, rss(pid)), max(held, counters[0])
            kernel = max(kernel, socket_memory())
            if kernel > 0.8 * SOCKET_MEMORY_LIMIT:
                sys.exit("the kernel's memory for sockets runs out: fewer connections, please")
            time.sleep(0.2)
        latencies, failed = results.get(timeout=10)
        cpu, spent = cpu_seconds(pid) - cpu, time.monotonic() - start
        victim.join()
        ended = counters[1]
    time.sleep(3)
    each = f"{(peak - before) / held:.1f}" if held else ""
    latencies.sort()
    quantile = lambda part: latencies[int(len(latencies) * part)] * 1000 if latencies else float("nan")
    print(
        f"| {phase} | {held:,} | {ended:,} | {before / 1024:.0f}, {peak / 1024:.0f}, {rss(pid) / 1024:.0f} | {each} "
        f"| {max(0, kernel - kernel_before) >> 20} "
        f"| {quantile(0.5):.2f}, {quantile(0.99):.2f} | {len(latencies):,}, {failed} | {cpu / spent:.0%} |",
        flush=True,
    )


# ── who attacks ──────────────────────────────────────────────────────────────

HEAD = b"GET /open/small HTTP/1.1\r\nHost: bench.test\r\n"
# What is sent at once; then a byte of the rest at each turn; whether the answer is read.
ATTACKERS = {
    "idle": (HEAD + b"\r\n", b"", True),
    "head": (b"GET /open/small HTTP/1.1\r\nHost: bench.test\r\nX-Slow: ", b"x" * 1000, True),
    "body": (b"POST /open/small HTTP/1.1\r\nHost: bench.test\r\nContent-Length: 1000\r\n\r\n", b"x" * 1000, True),
    "read": (b"GET /open/large HTTP/1.1\r\nHost: bench.test\r\n\r\n", b"", False),
}
TURN = 10.0


def attack(attacker, port: int, count: int, counters) -> None:
    # What is measured is the gateway, not how this one takes the machine from it.
    os.nice(19)
    first, rest, reads = attacker
    poll = select.epoll()
    sockets: dict[int, list] = {}
    order: list[int] = []
    next_turn, position = time.monotonic(), 0
    while True:
        # New ones, a few at a time, so that the listener's backlog takes them.
        for _ in range(min(200, count - len(sockets))):
            opened = open_slowly(port, first, small_window=not reads)
            if opened is None:
                break
            sockets[opened.fileno()] = [opened, 0]
            order.append(opened.fileno())
            poll.register(opened, select.EPOLLRDHUP | (select.EPOLLIN if reads else 0))
        for number, event in poll.poll(0.02):
            ended = bool(event & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP))
            if not ended and reads:
                with contextlib.suppress(OSError):
                    ended = sockets[number][0].recv(4096) == b""
            if ended:
                poll.unregister(number)
                sockets.pop(number)[0].close()
                counters[1] += 1
        counters[0] = len(sockets)
        # A tenth of a second's share of the turns.
        if time.monotonic() < next_turn or not order:
            continue
        next_turn += 0.1
        for _ in range(max(1, round(len(order) * 0.1 / TURN))):
            position = (position + 1) % len(order)
            number = order[position]
            if number not in sockets:
                order[position] = order[-1]
                order.pop()
                if not order:
                    break
                continue
            entry = sockets[number]
            with contextlib.suppress(OSError):
                if not reads:
                    entry[0].recv(2048)
                elif entry[1] < len(rest):
                    entry[0].send(rest[entry[1] : entry[1] + 1])
                    entry[1] += 1


def open_slowly(port: int, first: bytes, small_window: bool):
    opened = socket.socket()
    try:
        if small_window:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.settimeout(5)
        opened.connect(("127.0.0.1", port))
        opened.send(first)
        opened.setblocking(False)
        return opened
    except OSError:
        opened.close()
        return None


# ── who does not ─────────────────────────────────────────────────────────────

def ordinary_client(port: int, seconds: int, results) -> None:
    """Four connections in turn, 200 requests a second. Gives up on a request after 5 s."""
    latencies, failed, clients = [], 0, [None] * 4
    end = time.monotonic() + seconds
    due = time.monotonic()
    while due < end:
        time.sleep(max(0, due - time.monotonic()))
        turn, due = len(latencies) % 4, due + 0.005
        start = time.perf_counter()
        try:
            if clients[turn] is None:
                clients[turn] = socket.create_connection(("127.0.0.1", port), timeout=5)
                clients[turn].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            clients[turn].sendall(HEAD + b"\r\n")
            answer = b""
            while not answer.endswith(b"\r\n\r\nsmall"):
                piece = clients[turn].recv(4096)
                if not piece:
                    raise OSError("closed")
                answer += piece
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise OSError("refused")
        except OSError:
            failed += 1
            if clients[turn] is not None:
                clients[turn].close()
            clients[turn] = None
        latencies.append(time.perf_counter() - start)
        # Never ahead of the answers: what is late is not made up for.
        due = max(due, time.monotonic())
    results.put((latencies, failed))


def serve_upstream(listener: socket.socket) -> None:
    small = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall"
    large = memoryview(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % ANSWER + bytes(ANSWER))
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    sockets, sending = {}, {}
    while True:
        for number, event in poll.poll():
            if number == listener.fileno():
                with contextlib.suppress(BlockingIOError):
                    while True:
                        opened, _ = listener.accept()
                        opened.setblocking(False)
                        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
                        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        sockets[opened.fileno()] = opened
                        poll.register(opened, select.EPOLLIN)
                continue
            try:
                if event & select.EPOLLIN:
                    asked = sockets[number].recv(65536)
                    if not asked:
                        raise OSError("closed")
                    if asked.startswith(b"GET /open/large"):
                        sending[number] = large
                        poll.modify(number, select.EPOLLIN | select.EPOLLOUT)
                    elif asked.startswith(b"GET "):
                        sockets[number].sendall(small)
                if number in sending and event & select.EPOLLOUT:
                    sent = sockets[number].send(sending[number])
                    sending[number] = sending[number][sent:]
                    if not sending[number]:
                        del sending[number]
                        poll.modify(number, select.EPOLLIN)
                if event & (select.EPOLLHUP | select.EPOLLERR):
                    raise OSError("gone")
            except BlockingIOError:
                pass
            except OSError:
                sending.pop(number, None)
                poll.unregister(number)
                sockets.pop(number).close()


# ── processes and what the kernel says of them ───────────────────────────────

@contextlib.contextmanager
def process(target, *arguments):
    child = multiprocessing.Process(target=target, args=arguments, daemon=True)
    child.start()
    try:
        yield child
    finally:
        child.kill()
        child.join()


def stop(gateway: subprocess.Popen) -> None:
    gateway.send_signal(signal.SIGTERM)
    try:
        gateway.wait(40)
    except subprocess.TimeoutExpired:
        gateway.kill()


def listening(backlog: int) -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(backlog)
    return listener


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    sys.exit("the gateway does not listen")


def rss(pid: int) -> int:
    """KiB"""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def cpu_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def socket_memory() -> int:
    """Bytes that the kernel holds for TCP: of the attackers, the gateway and the upstream together."""
    used = next(line for line in pathlib.Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    return int(used.split()[-1]) * PAGE


PAGE = os.sysconf("SC_PAGE_SIZE")
# From here on the kernel is under pressure, and all sockets of the machine with it.
SOCKET_MEMORY_LIMIT = int(pathlib.Path("/proc/sys/net/ipv4/tcp_mem").read_text().split()[1]) * PAGE
HEADINGS = (
    "| phase | held | ended by the gateway | RSS before, peak, after (MiB) | KiB per connection | kernel, all sides (MiB) "
    "| p50, p99 (ms) | requests, failed | gateway CPU |",
    "|---|---|---|---|---|---|---|---|---|",
)

if __name__ == "__main__":
    main()
