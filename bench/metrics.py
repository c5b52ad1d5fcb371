"""The measurements. Each starts a guardian with a fresh folder, takes its figures, and leaves nothing running."""

import dataclasses
import os
import pathlib
import random
import shutil
import signal
import statistics
import tempfile
import threading
import time

import machine
from machine import CHILD, FLOOD, STARTED, WROTE_ALL, now
from peers import Loop, Service

RUNS = machine.CACHE / "runs"
LINE = 120
FLOOD_PIPE = 1 << 20
SETTLE = 15


class Trouble(Exception):
    """A guardian did not do what the measurement needs."""


@dataclasses.dataclass
class Plan:
    """How much is measured."""

    services: int = 1000
    restarts: int = 12
    floods: int = 3
    idle_seconds: int = 30
    flood_bytes: int = 1 << 30
    lines_bytes: int = 256 << 20
    patience: int = 90  # seconds until something counts as not done


class Session:
    """One guardian with its services, from its start until nothing of it is left."""

    def __init__(self, kind, services, patience, **options):
        RUNS.mkdir(parents=True, exist_ok=True)
        home = pathlib.Path(tempfile.mkdtemp(prefix=kind.name.replace(" ", "-") + "-", dir=RUNS))
        self.fifo = machine.Fifo(home / "records")
        self.patience = patience
        self.count = len(services(self.fifo.path, home))
        self.guardian = kind(home, services(self.fifo.path, home), **options)
        self.pids, self.started = {}, {}
        self.guardian.configure()
        # What the last run wrote is on its way to the disk: not into this one's figures.
        os.sync()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        machine.end_all()
        self.fifo.close()
        # Thousands of files stay until the bench ends: ext4 does not use inodes again that were deleted within the last
        # half a minute, and looks at each of them at every file that the next guardian creates.
        if self.count == 1:
            shutil.rmtree(self.guardian.home, ignore_errors=True)

    def take(self, seconds):
        """Records of starts, noted as the services' newest processes."""
        records = self.fifo.take(seconds)
        for service, pid, moment, at in records:
            if moment == STARTED:
                self.pids[service], self.started[service] = pid, at
        return records

    def start(self):
        """Milliseconds from the command until the last service runs its first instruction."""
        begin, end = now(), time.monotonic() + self.patience
        command = threading.Thread(target=self.guardian.start, daemon=True)
        command.start()
        while len(self.pids) < self.count:
            if time.monotonic() > end:
                raise Trouble(f"{len(self.pids)} of {self.count} services started in {self.patience} s")
            self.take(0.5)
        command.join(self.patience)
        return (max(self.started.values()) - begin) / 1e6

    def crash(self, service):
        """Milliseconds from before a service's SIGKILL until its successor's first instruction."""
        self.take(0)
        pid = self.pids[service]
        before, end = now(), time.monotonic() + self.patience
        os.kill(pid, signal.SIGKILL)
        while self.started[service] < before or self.pids[service] == pid:
            if time.monotonic() > end:
                raise Trouble(f"a killed service was not back after {self.patience} s")
            self.take(0.5)
        return (self.started[service] - before) / 1e6

    def stop(self):
        """Milliseconds until the last service is gone, and until the guardian is gone too (None: it stayed)."""
        children = machine.Gone(self.pids.values())
        own = machine.Gone(machine.guardian())
        begin, end = now(), time.monotonic() + self.patience
        command = threading.Thread(target=self.guardian.stop, daemon=True)
        command.start()
        if children_left(children, end):
            raise Trouble(f"services were left {self.patience} s after the stop")
        children_ms = (now() - begin) / 1e6
        # Some guardians take no end of time for their own; what is of interest is the first seconds.
        left = children_left(own, min(end, time.monotonic() + 10))
        all_ms = None if left else (now() - begin) / 1e6
        own.close()
        return children_ms, all_ms


def children_left(gone, end):
    while (left := gone.wait(0.05)) and time.monotonic() < end:
        pass
    return left


def small_services(count):
    return lambda fifo, _home: [Service(n, [CHILD, fifo, n]) for n in range(count)]


def restart_one(kind, plan):
    """Restart latency of the only service, each time after it has lived for over a second."""
    with Session(kind, small_services(1), plan.patience) as session:
        session.start()
        time.sleep(2)
        latencies = []
        for _ in range(plan.restarts):
            time.sleep(1.1 + random.random() / 2)
            latencies.append(session.crash(0))
        return {"restart": statistics.median(latencies)}


def life_of_many(kind, plan, wanted, idle):
    """The life of many services: start, memory, idling, restart of one, stop."""
    figures = {}
    with Session(kind, small_services(plan.services), plan.patience) as session:
        figures["start"] = session.start()
        time.sleep(3)
        own = machine.guardian()
        if "memory" in wanted:
            figures["memory"] = machine.pss_kib(own) / 1024
        if "wakeups" in wanted and idle:
            # Threads that a start needed may take some time to end: the guardian is idle once they have.
            time.sleep(SETTLE)
            before, begin = machine.waits(own), time.monotonic()
            time.sleep(plan.idle_seconds)
            woken = machine.wakeups(before, machine.waits(machine.guardian()))
            figures["wakeups"] = woken / (time.monotonic() - begin)
        if "restart-many" in wanted:
            latencies = []
            for _ in range(plan.restarts):
                time.sleep(0.2 + 0.3 * random.random())
                latencies.append(session.crash(random.randrange(session.count)))
            figures["restart-many"] = statistics.median(latencies)
            time.sleep(2)
        if "stop" in wanted:
            session.take(0)
            figures["stop"], figures["gone"] = session.stop()
    return {name: value for name, value in figures.items() if name in wanted or name == "gone"}


def capture(kind, plan, mode):
    """Throughput of one flooding service's output into rotated files, and the processor time for it."""
    size = plan.flood_bytes if mode == "block" else plan.lines_bytes
    speeds, costs, problems = [], [], ""
    for _ in range(plan.floods):
        with flooding(kind, plan, size, mode, keep=5) as session:
            seconds, cpu = flood(session, size)
            speeds.append(size / 1e6 / seconds)
            costs.append(cpu * (1 << 30) / size)
            # What is kept is the end of the flood; that end has no gap.
            problems = problems or check_lines(session, size, all_of_them=False)
    name = "log" if mode == "block" else "log-lines"
    return {name: statistics.median(speeds), f"{name}-cpu": statistics.median(costs), "log-check": problems}


def capture_all(kind, plan):
    """Whether every line of a flood is there once, with room for all of its files."""
    size = plan.lines_bytes
    with flooding(kind, plan, size, "block", keep=size // 10_000_000 + 2) as session:
        flood(session, size)
        return {"log-check": check_lines(session, size, all_of_them=True)}


def flooding(kind, plan, size, mode, keep):
    def services(fifo, home):
        return [Service(0, [FLOOD, fifo, home / "go", size, mode])]

    session = Session(kind, services, plan.patience, keep=keep)
    os.mkfifo(session.guardian.home / "go")
    if isinstance(session.guardian, Loop):
        session.guardian.pipe_bytes = FLOOD_PIPE
    return session


def flood(session, size):
    """Lets the service write; returns the seconds until its last line is in a file, and the guardian's processor time."""
    guardian = session.guardian
    end = time.monotonic() + session.patience
    threading.Thread(target=guardian.start, daemon=True).start()
    while not any(name == FLOOD.name for name, _ in machine.descendants().values()):
        if time.monotonic() > end:
            raise Trouble(f"the service did not start in {session.patience} s")
        time.sleep(0.05)
    # It waits for us to open the other end; meanwhile the guardian comes to rest, and its start is not counted.
    time.sleep(2)
    own = machine.guardian()
    before = machine.cpu_ns(own)
    os.close(os.open(guardian.home / "go", os.O_WRONLY | os.O_NONBLOCK))

    begin = written = None
    while written is None:
        if time.monotonic() > end:
            raise Trouble(f"the service could not write all its lines in {session.patience} s")
        for _, _, moment, at in session.take(0.5):
            if moment == STARTED:
                begin = at
            elif moment == WROTE_ALL:
                written = at
    last = b"%012d " % (size // LINE - 1)
    while not ends_with_line(guardian.log_files(guardian.services[0]), last):
        if time.monotonic() > end:
            raise Trouble("the last line never came into a file")
        time.sleep(0.002)
    done = now()
    return (done - begin) / 1e9, (machine.cpu_ns(own) - before) / 1e9


def ends_with_line(files, start):
    """Whether one of the newest files ends in the line that begins so."""
    for path in files[-2:]:
        try:
            with open(path, "rb") as file:
                file.seek(max(0, os.path.getsize(path) - 2 * LINE))
                if start in file.read():
                    return True
        except OSError:
            pass
    return False


def check_lines(session, size, all_of_them):
    """What is wrong with the lines that were kept; empty if each is whole, in order, once, and up to the last."""
    expected = None if not all_of_them else 0
    pattern = bytes(ord("a") + column % 26 for column in range(LINE))
    tail, torn, jumps, count = b" " + pattern[13:119], 0, 0, 0
    rest = b""
    for path in session.guardian.log_files(session.guardian.services[0]):
        with open(path, "rb") as file:
            data = rest + file.read()
        lines = data.split(b"\n")
        rest = lines.pop()
        for line in lines:
            if line[12:] != tail:
                # The first line of what is kept may have lost its beginning with the file before it.
                torn += not (expected is None and tail.endswith(line[-20:]))
                continue
            number = int(line[:12])
            jumps += expected is not None and number != expected
            expected = number + 1
            count += 1
    problems = []
    if torn:
        problems.append(f"{torn} torn lines")
    if jumps:
        problems.append(f"{jumps} gaps or repetitions")
    if expected != size // LINE or rest:
        problems.append("the end is missing")
    return ", ".join(problems)
