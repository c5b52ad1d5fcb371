#!/usr/bin/env python3
"""What it costs to measure what services use: `python3 bench/guards.py`, with a release build of keepwell in $KEEPWELL.

A thousand services that do nothing, with different guards in turn; the figure is the processor time of all of the guardian's
processes (anchor and daemon), in percent of one processor. The bar is 2 % at a sample each 5 s. A minute holds one look at PSS.
"""

import argparse
import os
import pathlib
import sys
import time

import machine
import metrics
import peers

BAR = 2.0
TICKS = os.sysconf("SC_CLK_TCK")
MEMORY = '{ when = "memory > 8GB" }'
COMMON = f'{MEMORY}, {{ when = "cpu > 5000% for 5m" }}, {{ when = "descriptors > 16000" }}, {{ when = "threads > 5000" }}, {{ when = "processes > 500" }}'
ALL = f'{COMMON}, {{ when = "io > 5GB/s" }}, {{ when = "pss > 8GB" }}'
CASES = [
    ("no guards", "", ""),
    ("`memory`", "", MEMORY),
    ("`memory`, `cpu`, `descriptors`, `threads`, `processes`", "", COMMON),
    ("the same, `io` and `pss`", "", ALL),
    ("the same, `profile = \"low-overhead\"`", 'profile = "low-overhead"', ALL),
]


def with_guards(keepwell, guards):
    """The guardian with these lines in its configuration."""

    class Guarded(peers.Keepwell):
        def configure(self):
            super().configure()
            path = self.home / "keepwell.toml"
            text = path.read_text()
            if guards:
                text = text.replace("[defaults]\n", f"[defaults]\nguards = [{guards}]\n", 1)
            path.write_text(f"[keepwell]\n{keepwell}\n{text}")

    return Guarded


def cpu_seconds(pids):
    """Processor time so far of these processes, also of their threads that have ended."""
    total = 0
    for pid in pids:
        rest = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(rest[11]) + int(rest[12])
    return total / TICKS


def measure(keepwell, guards, services, seconds):
    """Percent of one processor, and how often a second a thread was woken."""
    with metrics.Session(with_guards(keepwell, guards), metrics.small_services(services), 120) as session:
        session.start()
        time.sleep(metrics.SETTLE)
        pids = machine.guardian()
        before, begin, waits = cpu_seconds(pids), time.monotonic(), machine.waits(pids)
        time.sleep(seconds)
        passed = time.monotonic() - begin
        woken = machine.wakeups(waits, machine.waits(pids)) / passed
        return 100 * (cpu_seconds(pids) - before) / passed, woken, machine.pss_kib(pids) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--only", default="", help="only the cases whose name holds this")
    chosen = parser.parse_args()
    machine.prepare()
    print(f"{chosen.services} services, {chosen.seconds} s each, a sample each 5 s\n")
    print("| Guards of each service | One processor | Waits a second | Memory |\n|---|---|---|---|")
    missed = []
    for name, keepwell, guards in CASES:
        if chosen.only not in name:
            continue
        machine.wait_until_quiet()
        cpu, woken, memory = measure(keepwell, guards, chosen.services, chosen.seconds)
        if cpu > BAR:
            missed.append(name)
        print(f"| {name} | {cpu:.2f} % | {woken:.1f} | {memory:.1f} MB |", flush=True)
    if missed:
        sys.exit(f"over {BAR} %: {', '.join(missed)}")


if __name__ == "__main__":
    main()
