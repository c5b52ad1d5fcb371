#!/usr/bin/env python3
"""What a scrape of `/metrics` costs: `python3 bench/scrape.py`, with a release build of keepwell in $KEEPWELL.

A thousand services that do nothing, without a check and with one each. The page is asked for as Prometheus does, on a connection
that stays, compressed by nobody. The figures are medians of scrapes: the time until the last byte is there, its bytes, and the
processor time of all of the guardian's processes until the next scrape, less what they use when nobody asks. The bar is 50 ms.
"""

import argparse
import http.client
import socket
import statistics
import sys
import time

import machine
import metrics
import peers

BAR = 50.0
ACCEPT = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
#: From one scrape to the next: what a scrape has begun is done by then.
PAUSE = 0.5
CASES = [
    ("no checks", ""),
    ("one `live` check each, every 10 s", 'live = { file = "/", period = "10s" }'),
]


def served(port, defaults):
    """The guardian with a server of figures, and these lines for all services."""

    class Served(peers.Keepwell):
        def configure(self):
            super().configure()
            path = self.home / "keepwell.toml"
            text = path.read_text().replace("[defaults]\n", f"[defaults]\n{defaults}\n", 1)
            path.write_text(f'[keepwell]\nhttp = "127.0.0.1:{port}"\n{text}')

    return Served


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_ns(pids):
    """Processor time so far of these processes, also of their threads that have ended (clock_getcpuclockid(3))."""
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids)


def scrape(connection):
    """Milliseconds until all is there, and its bytes."""
    begin = machine.now()
    connection.request("GET", "/metrics", headers={"Accept": ACCEPT})
    answer = connection.getresponse()
    page = answer.read()
    took = (machine.now() - begin) / 1e6
    if answer.status != 200 or not page.endswith(b"# EOF\n"):
        sys.exit(f"status {answer.status}, {len(page)} bytes, and not what was asked for")
    return took, page


def measure(defaults, services, times):
    """Medians of milliseconds, bytes, lines and milliseconds of processor time."""
    port = free_port()
    with metrics.Session(served(port, defaults), metrics.small_services(services), 120) as session:
        session.start()
        time.sleep(metrics.SETTLE)
        pids = machine.guardian()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        # Buffers are made by the first ones.
        scrape(connection)
        scrape(connection)
        time.sleep(PAUSE)

        took, used, page = [], [], b""
        for _ in range(times):
            before = cpu_ns(pids)
            time.sleep(PAUSE)
            idle = cpu_ns(pids) - before
            before = cpu_ns(pids)
            ms, page = scrape(connection)
            time.sleep(PAUSE)
            took.append(ms)
            used.append((cpu_ns(pids) - before - idle) / 1e6)
        memory = machine.pss_kib(pids) / 1024
        connection.close()
    return statistics.median(took), len(page), page.count(b"\n"), statistics.median(used), memory


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--times", type=int, default=15)
    chosen = parser.parse_args()
    machine.prepare()
    print(f"{chosen.services} services, medians of {chosen.times} scrapes\n")
    print("| Services with | Until the last byte | Page | Lines | Processor time | Memory |\n|---|---|---|---|---|---|")
    missed = []
    for name, defaults in CASES:
        machine.wait_until_quiet()
        took, size, lines, used, memory = measure(defaults, chosen.services, chosen.times)
        if used > BAR:
            missed.append(name)
        print(f"| {name} | {took:.1f} ms | {size / 1e6:.2f} MB | {lines:,} | {used:.1f} ms | {memory:.1f} MB |", flush=True)
    if missed:
        sys.exit(f"over {BAR} ms: {', '.join(missed)}")


if __name__ == "__main__":
    main()
