#!/usr/bin/env python3
"""keepwell and its peers, measured in one run: `cargo xtask bench --help`."""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import shlex
import shutil
import sys
import time

import machine
import metrics
import peers
import report

METRICS = {
    "restart": "crash of the only service until its successor's first instruction",
    "restart-many": "the same, one of many",
    "memory": "PSS of the guardian's processes with many services",
    "wakeups": "voluntary context switches a second, idle, with many services",
    "start": "from the command until the last of many services runs",
    "stop": "from the request until the last of many services is gone, and until the guardian is gone",
    "log": "capture of a flood in 64 KiB writes: throughput, processor time, every line checked",
    "log-lines": "the same with a write a line",
}
OF_MANY = {"restart-many", "memory", "wakeups", "start", "stop"}
QUICK = metrics.Plan(services=100, restarts=5, floods=1, idle_seconds=10, flood_bytes=128 << 20, lines_bytes=32 << 20, patience=60)


def arguments():
    listed = "\n".join(f"  {name:13} {what}" for name, what in METRICS.items())
    parser = argparse.ArgumentParser(
        prog="cargo xtask bench", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"{__doc__}\n\nmetrics (all, if none is named):\n{listed}",
    )
    parser.add_argument("metrics", nargs="*", metavar="METRIC")
    parser.add_argument("--quick", action="store_true", help="one round with 100 services: whether it works, not how fast it is")
    parser.add_argument("--rounds", type=int, help="how often keepwell and the loop have their turn; the others have one (3; quick: 1)")
    parser.add_argument("--peers", help="only these, with commas between; the C loop is always measured")
    parser.add_argument("--write-docs", action="store_true", help="write the tables into docs/performance.md")
    parser.add_argument("--json", type=pathlib.Path, help="write all figures of all rounds to this file")
    parser.add_argument("--strict", action="store_true", help="fail if a bar is not met")
    parser.add_argument("--install-peers", action="store_true", help="fetch the peers that this machine can have, and end")
    chosen = parser.parse_args()
    for name in chosen.metrics:
        if name not in METRICS:
            parser.error(f"there is no metric `{name}`; there are {', '.join(METRICS)}")
    return chosen


def choose(wanted):
    """The guardians to measure, and a line for each that is left out."""
    names = {kind.name.lower(): kind for kind in peers.ALL}
    asked = {name.strip().lower() for name in wanted.split(",")} if wanted else set(names)
    if unknown := asked - set(names):
        sys.exit(f"there is no guardian `{sorted(unknown)[0]}`; there are {', '.join(names)}")
    kinds, skipped = [], []
    for name, kind in names.items():
        if name not in asked and kind is not peers.Loop:
            continue
        if kind.found():
            kinds.append(kind)
        else:
            skipped.append(f"{kind.name} ({kind.path()} was not found)")
    return kinds, skipped


def turn(kind, plan, wanted, number):
    """One guardian's turn of one round, as a stream of (what, figures) for what can be measured."""
    if "restart" in wanted:
        yield "restart", lambda: metrics.restart_one(kind, plan)
    if wanted & OF_MANY:
        yield "many services", lambda: metrics.life_of_many(kind, plan, wanted, idle=number == 0)
    if "log" in wanted and kind.captures:
        yield "log", lambda: metrics.capture(kind, plan, "block")
        if number == 0:
            yield "log, every line", lambda: metrics.capture_all(kind, plan)
    if "log-lines" in wanted and kind.captures:
        yield "log-lines", lambda: metrics.capture(kind, plan, "line")


def measure(kinds, plan, wanted, repeats):
    rounds = {kind.name: [] for kind in kinds}
    failed, busiest = [], 0.0
    for number in range(repeats):
        found = {kind.name: {} for kind in kinds}
        # The bars are ratios to the loop, so these two have every round; the others are there for the reader.
        present = [kind for kind in kinds if number == 0 or kind in (peers.Loop, peers.Keepwell)]
        turns = [(kind, list(turn(kind, plan, wanted, number))) for kind in present]
        # Guardians take turns within one measurement, so that what changes on the machine changes for all.
        for step in dict.fromkeys(what for _, steps in turns for what, _ in steps):
            for kind, steps in turns:
                run = dict(steps).get(step)
                if run is None:
                    continue
                busiest = max(busiest, machine.wait_until_quiet())
                try:
                    figures = run()
                except metrics.Trouble as trouble:
                    failed.append(f"{kind.name}, {step}, round {number + 1}: {trouble}")
                    figures = {}
                # A problem that one run saw is not washed away by a later one that saw none.
                problem = found[kind.name].get("log-check") or figures.get("log-check")
                found[kind.name] |= figures | ({"log-check": problem} if problem else {})
                shown = ", ".join(f"{k} {report.figure(v)}" for k, v in figures.items() if isinstance(v, (int, float)))
                said = figures.get("log-check") or ""
                print(f"{time.strftime('%H:%M:%S')} round {number + 1} {step:16} {kind.name:12} {shown} {said}", file=sys.stderr)
        for kind in present:
            rounds[kind.name].append(found[kind.name])
    return rounds, failed, busiest


def this_machine():
    model = next((line.split(": ")[1] for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    real = os.stat(machine.CACHE).st_dev
    mounts = (line.split() for line in open("/proc/self/mountinfo"))
    device = f"{os.major(real)}:{os.minor(real)}"
    filesystem = next((words[words.index("-") + 1] for words in mounts if words[2] == device), "an unknown file system")
    return {
        "cpus": os.cpu_count(),
        "model": model.strip(),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "filesystem": filesystem,
    }


def main():
    chosen = arguments()
    if chosen.install_peers:
        peers.install()
        return
    machine.prepare()
    kinds, skipped = choose(chosen.peers)
    for line in skipped:
        print(f"not measured: {line}", file=sys.stderr)
    repeats = chosen.rounds or (1 if chosen.quick else 3)
    plan = QUICK if chosen.quick else metrics.Plan()
    wanted = set(chosen.metrics or METRICS)
    begin = time.monotonic()
    try:
        rounds, failed, busiest = measure(kinds, plan, wanted, repeats)
    finally:
        shutil.rmtree(metrics.RUNS, ignore_errors=True)
    # What is measured; where the figures go is nobody's business.
    said = [word for word in sys.argv[1:] if word not in ("--write-docs", "--json", str(chosen.json)) and "--json=" not in word]
    result = {
        "command": shlex.join(["cargo", "xtask", "bench", *said]),
        "machine": this_machine(),
        "plan": dataclasses.asdict(plan),
        "services": plan.services,
        "repeats": repeats,
        "busy": busiest,
        "seconds": time.monotonic() - begin,
        "about": {kind.name: {"version": kind.version(), "note": kind.note} for kind in kinds},
        "rounds": rounds,
        "skipped": skipped,
        "failed": failed,
    }
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=2) + "\n")
    text = report.page(result)
    print(text)
    if chosen.write_docs:
        report.write_into(machine.HERE.parent / "docs" / "performance.md", text)
    missed = report.bars(result)[1]
    if missed:
        print(f"\n{missed} bars are not met", file=sys.stderr)
    if failed or (missed and chosen.strict):
        sys.exit(1)


if __name__ == "__main__":
    main()
