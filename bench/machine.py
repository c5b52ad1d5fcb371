"""What the bench reads off the machine: processes, their memory and time, and what the test programs tell.

Everything is measured from outside, from /proc and from the test programs' own clock. Nothing here knows a guardian.
"""

import ctypes
import os
import pathlib
import resource
import select
import signal
import struct
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "keepwell-bench"
HELPERS = CACHE / "helpers"
CHILD, FLOOD, LOOP = (HELPERS / name for name in ("kw-child", "kw-flood", "kw-loop"))
TEST_PROGRAMS = {CHILD.name, FLOOD.name}
STARTED, WROTE_ALL = 1, 2
RECORD = struct.Struct("=IIIIQ")

_PR_SET_CHILD_SUBREAPER = 36


def prepare():
    """Builds the helpers and makes this process the parent of whatever loses its own."""
    HELPERS.mkdir(parents=True, exist_ok=True)
    common = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static"]
    bare = ["-nostdlib", "-ffreestanding", "-fno-stack-protector", "-Wl,--build-id=none"]
    for target, source, flags in ((CHILD, "child.c", bare), (FLOOD, "flood.c", []), (LOOP, "loop.c", [])):
        subprocess.run([*common, *flags, "-o", target, HERE / "src" / source], check=True)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def now():
    """The clock of the test programs, in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def _stat(pid):
    """(parent, name, state) of a process, or None if it is gone."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name stands in parentheses and may itself hold some.
    name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
    return int(rest[1]), name, rest[0]


def descendants():
    """pid -> (name, state) of everything below this process."""
    children, about = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (found := _stat(entry)):
            parent, name, state = found
            children.setdefault(parent, []).append(int(entry))
            about[int(entry)] = (name, state)
    below, open_ends = {}, [os.getpid()]
    while open_ends:
        for pid in children.get(open_ends.pop(), []):
            below[pid] = about[pid]
            open_ends.append(pid)
    return below


def guardian():
    """The processes of the guardian: what lives below us and is no test program."""
    return [pid for pid, (name, state) in descendants().items() if name not in TEST_PROGRAMS and state != "Z"]


def _threads(pid):
    try:
        return [f"/proc/{pid}/task/{thread}" for thread in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def _read(path):
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ""


def cpu_ns(pids):
    """Time on a processor so far, of all threads."""
    texts = (_read(f"{thread}/schedstat").split() for pid in pids for thread in _threads(pid))
    return sum(int(words[0]) for words in texts if words)


def waits(pids):
    """thread -> its voluntary context switches so far; each is one wait that ended."""
    found = {}
    for pid in pids:
        for thread in _threads(pid):
            for line in _read(f"{thread}/status").splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    found[thread] = int(line.split()[1])
    return found


def wakeups(before, after):
    """How often threads were woken between two readings of `waits`; one that has ended was woken to end."""
    ended = sum(1 for thread in before if thread not in after)
    return ended + sum(count - before.get(thread, 0) for thread, count in after.items())


def pss_kib(pids):
    """Proportional set size: private memory, and each process's share of what several map."""
    total = 0
    for pid in pids:
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def busy_percent(seconds=0.4):
    """How much of all processors was used in the time given."""

    def ticks():
        values = [int(word) for word in _read("/proc/stat").splitlines()[0].split()[1:9]]
        return sum(values), values[3] + values[4]

    all_before, idle_before = ticks()
    time.sleep(seconds)
    all_after, idle_after = ticks()
    total = max(1, all_after - all_before)
    return 100.0 * (total - (idle_after - idle_before)) / total


def wait_until_quiet(limit=20.0, at_most=30.0):
    """Waits for other work on this machine to end; returns how busy it still is, in percent."""
    end = time.monotonic() + at_most
    while True:
        busy = busy_percent()
        if busy <= limit or time.monotonic() > end:
            return busy
        time.sleep(1)


def reap():
    """Takes the exit statuses of what was left to us."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def end_all():
    """Kills whatever a run has left; the guardian first, so that it starts nothing again."""
    for _ in range(500):
        alive = [(name in TEST_PROGRAMS, pid) for pid, (name, state) in descendants().items() if state != "Z"]
        if not alive:
            break
        for _, pid in sorted(alive):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
        reap()
    reap()


class Fifo:
    """Where the test programs tell (service, pid, moment, nanoseconds)."""

    def __init__(self, path):
        os.mkfifo(path)
        self.path = str(path)
        # Both ends, so that it never reads as closed when no program has it open.
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.poll = select.poll()
        self.poll.register(self.fd, select.POLLIN)

    def take(self, seconds):
        """All records that are there, after waiting at most the given time for the first."""
        if not self.poll.poll(seconds * 1000):
            return []
        data = os.read(self.fd, RECORD.size * 2048)
        return [(service, pid, moment, at) for service, pid, moment, _, at in RECORD.iter_unpack(data)]

    def close(self):
        os.close(self.fd)


class Gone:
    """When each of some processes ends, by their pidfds."""

    def __init__(self, pids):
        self.poll, self.fds = select.poll(), {}
        for pid in pids:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            self.fds[fd] = pid
            self.poll.register(fd, select.POLLIN)

    def wait(self, seconds):
        """Forgets those that end within the time; returns how many are left."""
        for fd, _ in self.poll.poll(seconds * 1000):
            self.poll.unregister(fd)
            os.close(fd)
            del self.fds[fd]
        return len(self.fds)

    def close(self):
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()
