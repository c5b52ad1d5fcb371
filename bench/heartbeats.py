#!/usr/bin/env python3
"""What heartbeats cost, and how soon a program that stops beating is found.

    python3 bench/heartbeats.py [--keepwell FILE] [--programs N]

Frames and memory are those of the receiver alone, whose clients are another process (crates/daemon/examples/heartbeats.rs). The
finding is that of a whole guardian: each program writes down when keepwell answered its last beat and then hangs; how much later
than `lost_after` the event comes is what keepwell adds to the theory.
"""

import argparse
import datetime
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = ROOT / "target" / "release"
LOST_AFTER = 1
PROGRAM = """
import random, sys, time, keepwell_heartbeat
guardian = keepwell_heartbeat.from_env()
for _ in range(random.randint(5, 25)):
    guardian.beat()
    time.sleep(0.1)
guardian.beat()
open(sys.argv[1], "w").write(str(time.time()))
time.sleep(3600)
"""


def command(*words):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


def lateness(keepwell, programs):
    """For each of so many programs, by how many seconds it was found later than a second after its last beat."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "beat.py").write_text(PROGRAM)
        names = [f"p{number}" for number in range(programs)]
        beat = f"""
env = {{ PYTHONPATH = "{ROOT}/clients/python" }}
restart = "never"
live = {{ heartbeat = true, period = "500ms", lost_after = "{LOST_AFTER}s" }}"""
        services = [f'[services.{name}]\ncommand = ["{sys.executable}", "beat.py", "{name}"]{beat}' for name in names]
        # A guardian whose services have all ended ends, too.
        lasts = '[healing]\nlimit = "off"\n[services.lasts]\ncommand = ["sleep", "infinity"]'
        (folder / "keepwell.toml").write_text("\n".join([lasts, *services]))
        guardian = subprocess.Popen([keepwell, "up", "--quiet"], cwd=folder, stdout=subprocess.DEVNULL)
        try:
            found = {}
            while len(found) < programs:
                time.sleep(0.5)
                if guardian.poll() is not None:
                    sys.exit(f"keepwell ended with {guardian.returncode}")
                asked = subprocess.run(
                    [keepwell, "events", "--json", "--lines", "1000"], cwd=folder, capture_output=True, text=True, check=False
                )
                events = [json.loads(line) for line in asked.stdout.splitlines()]
                found = {e["service"]: e["at"] for e in events if e["kind"] == "heartbeat_lost"}
            last = {name: float((folder / name).read_text()) for name in names}
            return [seconds(found[name]) - last[name] - LOST_AFTER for name in names]
        finally:
            guardian.terminate()
            guardian.wait()


def seconds(text):
    """RFC 3339 in UTC, as keepwell tells it, as seconds since 1970."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keepwell", type=pathlib.Path, help="the program (default: built here)")
    parser.add_argument("--programs", type=int, default=40)
    given = parser.parse_args()
    build = ["cargo", "build", "--release", "--quiet", "--manifest-path", ROOT / "Cargo.toml"]
    command(*build, "-p", "keepwell-daemon", "--example", "heartbeats")
    if not given.keepwell:
        command(*build, "-p", "keepwell")
    print(command(RELEASE / "examples" / "heartbeats"), end="")
    late = sorted(lateness(given.keepwell or RELEASE / "keepwell", given.programs))
    middle, most = statistics.median(late) * 1000, late[-1] * 1000
    print(f"found      {len(late)} programs: {middle:.0f} ms later than lost_after in the middle, {most:.0f} ms at most")


if __name__ == "__main__":
    main()
