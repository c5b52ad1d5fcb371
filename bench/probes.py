#!/usr/bin/env python3
"""What checks cost, how soon they find, and how soon what they found ill is back.

    python3 bench/probes.py [--restarts N]      (a release build of keepwell in $KEEPWELL; default: built here)

Cost and finding are those of crates/daemon/examples/probes.rs: 10,000 services, each asked by HTTP once in 10 s. The restarts are
those of a whole guardian: from when the check has its bad answer, or from before the program's SIGKILL, until the next one's
first instruction. keepwell asks an ill program to stop, and keeps evidence of it before.
"""

import argparse
import http.server
import os
import pathlib
import random
import statistics
import subprocess
import sys
import threading
import time

import machine
import metrics
import peers

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = ROOT / "target" / "release"
PERIOD = 0.2


class Health(http.server.BaseHTTPRequestHandler):
    """Says that all is well, but for one answer each time that it is told."""

    ill, answered = threading.Event(), None

    def do_GET(self):
        ill = self.ill.is_set()
        self.ill.clear()
        self.send_response(503 if ill else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        if ill:
            type(self).answered = machine.now()

    def log_message(self, *_):
        pass


def with_check(address, evidence):
    """The guardian whose services are asked there."""

    class Checked(peers.Keepwell):
        def configure(self):
            super().configure()
            path = self.home / "keepwell.toml"
            check = f'live = {{ http = "{address}", period = "{PERIOD}s", timeout = "100ms", failure_threshold = 1 }}\n'
            path.write_text(f'[healing]\nlimit = "off"\n{evidence}\n{path.read_text()}{check}')

    return Checked


def fall_ill(session):
    """Milliseconds from the bad answer until the successor's first instruction."""
    session.take(0)
    pid, Health.answered = session.pids[0], None
    Health.ill.set()
    end = time.monotonic() + session.patience
    while session.pids[0] == pid:
        if time.monotonic() > end:
            raise metrics.Trouble("no restart by a failed check")
        session.take(0.05)
    return (session.started[0] - Health.answered) / 1e6


def restarts(times, evidence=""):
    """Medians in milliseconds: restarts after a crash, and after a failed check."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    crashed, ill = [], []
    kind = with_check(f"http://127.0.0.1:{server.server_port}/", evidence)
    with metrics.Session(kind, metrics.small_services(1), 30) as session:
        session.start()
        time.sleep(2)
        for _ in range(times):
            time.sleep(1.1 + random.random() / 2)
            crashed.append(session.crash(0))
            time.sleep(1.1 + random.random() / 2)
            ill.append(fall_ill(session))
    return statistics.median(crashed), statistics.median(ill)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=30)
    given = parser.parse_args()
    build = ["cargo", "build", "--release", "--quiet", "--manifest-path", ROOT / "Cargo.toml"]
    subprocess.run([*build, "-p", "keepwell-daemon", "--example", "probes"], check=True)
    if "KEEPWELL" not in os.environ:
        subprocess.run([*build, "-p", "keepwell"], check=True)
        peers.KEEPWELL = str(RELEASE / "keepwell")
    machine.prepare()
    machine.wait_until_quiet()
    subprocess.run([RELEASE / "examples" / "probes"], check=True)
    for name, evidence in (("with evidence", ""), ("without", 'evidence = "off"')):
        crash, check = restarts(given.restarts, evidence)
        print(f"restart    {name}: after a crash {crash:.2f} ms, by a failed check {check:.2f} ms, {check / crash:.2f} x (medians of {given.restarts})")


if __name__ == "__main__":
    sys.exit(main())
