"""One class a guardian: how it is configured, started and asked to stop, each in the way that suits it best.

All do the same work: restart at once and without bound, and capture standard output into files of 10 MB, of which five are
kept. Where a guardian cannot, its `note` says so.
"""

import glob
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

from machine import CACHE, LOOP

PEERS = pathlib.Path(os.environ.get("KEEPWELL_BENCH_PEERS") or CACHE)
KEEPWELL = os.environ.get("KEEPWELL", "keepwell")


class Service:
    def __init__(self, number, words):
        self.name = f"s{number:04}"
        self.words = [str(word) for word in words]

    @property
    def command(self):
        return " ".join(self.words)


def write(path, text, mode=0o644):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def answer(*words):
    """What a program prints, on one line; empty if it cannot be run."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
    except OSError:
        return ""
    return " ".join((done.stdout or done.stderr).split())


def debian_version(package):
    return answer("dpkg-query", "-W", "-f", "${Version}", package)


class Guardian:
    name = ""
    program = ""
    note = ""
    captures = True  # whether services' output passes through it

    def __init__(self, home, services, keep=5):
        self.home, self.services, self.keep = pathlib.Path(home), services, keep
        self.env = dict(os.environ)
        self.main = None
        (self.home / "log").mkdir(parents=True)

    @classmethod
    def path(cls):
        return cls.program

    @classmethod
    def found(cls):
        return shutil.which(cls.path()) is not None

    @classmethod
    def version(cls):
        return ""

    def configure(self):
        raise NotImplementedError

    def start(self):
        raise NotImplementedError

    def stop(self):
        self.main.send_signal(signal.SIGTERM)

    def log(self, service):
        return self.home / "log" / f"{service.name}.log"

    def log_files(self, service):
        """Oldest first."""
        base = str(self.log(service))
        older = [path for path in glob.glob(glob.escape(base) + ".*") if re.fullmatch(r"\d+", path[len(base) + 1 :])]
        older.sort(key=lambda path: -int(path[len(base) + 1 :]))
        return [*older, *([base] if os.path.exists(base) else [])]

    def spawn(self, *words):
        with open(self.home / "guardian.out", "ab") as out:
            self.main = subprocess.Popen(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env=self.env, cwd=self.home, start_new_session=True,
            )

    def call(self, *words):
        with open(self.home / "control.out", "ab") as out:
            subprocess.run(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.env, cwd=self.home, timeout=300,
            )


class Loop(Guardian):
    name = "C loop"
    note = "posix_spawn, epoll, signalfd and splice (bench/src/loop.c); 1 MiB pipe in the log test"
    pipe_bytes = 0

    @classmethod
    def path(cls):
        return str(LOOP)

    def configure(self):
        write(self.home / "table", "".join(f"{self.log(s)}\t{s.command}\n" for s in self.services))

    def start(self):
        big = ["-p", self.pipe_bytes] if self.pipe_bytes else []
        self.spawn(LOOP, *big, "-k", self.keep, self.home / "table")


class Keepwell(Guardian):
    name = "keepwell"
    note = 'restart = { delay = "0s", limit = "off" }, cgroups as found'

    @classmethod
    def path(cls):
        return KEEPWELL

    @classmethod
    def version(cls):
        return answer(KEEPWELL, "--version").removeprefix("keepwell ")

    def configure(self):
        text = '[defaults]\nrestart = { policy = "always", delay = "0s", limit = "off" }\n'
        for service in self.services:
            text += f"\n[services.{service.name}]\ncommand = {json.dumps(service.words)}\n"
            text += f'log = {{ file = "{self.log(service)}", rotate = {{ size = "10MB", keep = {self.keep} }} }}\n'
        write(self.home / "keepwell.toml", text)

    def start(self):
        self.call(KEEPWELL, "up", "--detach", "-f", self.home / "keepwell.toml")
        self.anchor = self.info()["anchor_pid"]

    def info(self):
        done = subprocess.run(
            [KEEPWELL, "info", "--json"], capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=self.home, timeout=30
        )
        return json.loads(done.stdout)

    def stop(self):
        os.kill(self.anchor, signal.SIGTERM)


class Dinit(Guardian):
    name = program = "dinit"
    note = "restart-delay = 0, restart-limit-interval = 0; the service writes its file itself, without rotation"
    captures = False

    @classmethod
    def version(cls):
        found = re.search(r"\d[\w.]*", answer("dinit", "--version"))
        return found.group(0) if found else ""

    def configure(self):
        for service in self.services:
            write(
                self.home / "services" / service.name,
                f"type = process\ncommand = {service.command}\nrestart = true\nsmooth-recovery = true\n"
                f"restart-delay = 0\nrestart-limit-interval = 0\nlog-type = file\nlogfile = {self.log(service)}\n",
            )
        waits = "".join(f"waits-for = {service.name}\n" for service in self.services)
        write(self.home / "services" / "boot", f"type = internal\n{waits}")

    def start(self):
        self.spawn("dinit", "--user", "-d", self.home / "services", "-p", self.home / "control.sock", "boot")


class Runit(Guardian):
    name = "runit"
    program = "runsvdir"
    note = "svlogd; it starts nothing twice within a second"

    @classmethod
    def version(cls):
        return debian_version("runit")

    def script(self, service):
        return f"#!/bin/sh\nexec 2>&1\nexec {service.command}\n"

    def logger(self, folder):
        write(folder / "config", f"s10000000\nn{self.keep}\n")
        return f"#!/bin/sh\nexec svlogd {folder}\n"

    def configure(self):
        for service in self.services:
            folder = self.home / "services" / service.name
            logs = self.home / "log" / service.name
            logs.mkdir()
            write(folder / "run", self.script(service), 0o755)
            write(folder / "log" / "run", self.logger(logs), 0o755)
        # runsvdir waits a second before it reads a folder that has just changed.
        os.utime(self.home / "services", (0, 0))

    def start(self):
        self.spawn("runsvdir", "-P", self.home / "services")

    def stop(self):
        self.main.send_signal(signal.SIGHUP)

    def log_files(self, service):
        folder = self.home / "log" / service.name
        return [*sorted(map(str, folder.glob("@*"))), *map(str, folder.glob("current"))]


class S6(Runit):
    name = "s6"
    program = "s6-svscan"
    note = "s6-log; each script says that it is ready, since s6 otherwise waits a second before every restart"

    @classmethod
    def version(cls):
        return debian_version("s6")

    def script(self, service):
        return f"#!/bin/sh\nexec 2>&1\necho >&3\nexec 3>&-\nexec {service.command}\n"

    def logger(self, folder):
        return f"#!/bin/sh\nexec s6-log n{self.keep} s10000000 {folder}\n"

    def configure(self):
        super().configure()
        for service in self.services:
            write(self.home / "services" / service.name / "notification-fd", "3\n")

    def start(self):
        self.spawn("s6-svscan", "-c", "4096", "-t", "0", self.home / "services")

    def stop(self):
        self.call("s6-svscanctl", "-t", self.home / "services")


class Supervisord(Guardian):
    name = "supervisord"
    note = "startsecs = 0; it takes note of the dead once a second"

    @classmethod
    def path(cls):
        return str(PEERS / "venv/bin/supervisord")

    @classmethod
    def version(cls):
        return answer(cls.path(), "-v")

    def configure(self):
        # Every child closes `minfds` descriptors one by one: no more than are needed.
        text = (
            f"[supervisord]\nnodaemon=true\nlogfile={self.home}/supervisord.log\npidfile={self.home}/supervisord.pid\n"
            f"minfds={max(1024, 4 * len(self.services) + 64)}\n"
        )
        for service in self.services:
            text += (
                f"\n[program:{service.name}]\ncommand={service.command}\nstartsecs=0\nautorestart=true\nstartretries=1000000\n"
                f"redirect_stderr=true\nstdout_logfile={self.log(service)}\nstdout_logfile_maxbytes=10MB\n"
                f"stdout_logfile_backups={self.keep}\n"
            )
        write(self.home / "supervisord.conf", text)

    def start(self):
        self.spawn(self.path(), "-n", "-c", self.home / "supervisord.conf")


class Pm2(Guardian):
    name = "PM2"
    note = "fork mode, restart_delay 0; without its module pm2-logrotate it does not rotate"

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.env |= {"PM2_HOME": str(self.home / "pm2"), "PM2_DISABLE_VERSION_CHECK": "true"}

    @classmethod
    def path(cls):
        return str(PEERS / "npm/node_modules/.bin/pm2")

    @classmethod
    def version(cls):
        try:
            return json.loads((PEERS / "npm/node_modules/pm2/package.json").read_text())["version"]
        except OSError:
            return ""

    def configure(self):
        apps = [
            {
                "name": s.name, "script": s.words[0], "args": s.words[1:], "interpreter": "none", "exec_mode": "fork",
                "cwd": str(self.home), "out_file": str(self.log(s)), "error_file": f"{self.log(s)}.err",
                "restart_delay": 0, "max_restarts": 1_000_000_000, "min_uptime": 0, "autorestart": True,
                "vizion": False, "pmx": False, "kill_timeout": 10000,
            }
            for s in self.services
        ]
        write(self.home / "apps.config.json", json.dumps({"apps": apps}))

    def start(self):
        self.call(self.path(), "start", self.home / "apps.config.json")

    def stop(self):
        self.call(self.path(), "kill")


class Horust(Guardian):
    name = "Horust"
    note = 'backoff = "0s"; it rotates but keeps every file'

    @classmethod
    def path(cls):
        return str(PEERS / "horust/bin/horust")

    @classmethod
    def version(cls):
        found = re.search(r"\d+\.\d+\.\d+", answer(cls.path(), "--version"))
        return found.group(0) if found else ""

    def configure(self):
        (self.home / "sockets").mkdir()
        for service in self.services:
            write(
                self.home / "services" / f"{service.name}.toml",
                f'command = "{service.command}"\nstdout = "{self.log(service)}"\nstdout-rotate-size = "10 MB"\n'
                '[restart]\nstrategy = "always"\nbackoff = "0s"\n'
                '[failure]\nstrategy = "ignore"\n[termination]\nsignal = "TERM"\nwait = "10s"\n',
            )

    def start(self):
        self.spawn(
            self.path(), "--services-path", self.home / "services", "--uds-folder-path", self.home / "sockets"
        )

    def log_files(self, service):
        files = super().log_files(service)
        return [*files[-1:], *reversed(files[:-1])]  # NAME.log is its oldest, the highest number its newest


class Circus(Guardian):
    name = "Circus"
    note = "check_delay = 0.1 (its default of 5 s is the wait before a restart)"

    @classmethod
    def path(cls):
        return str(PEERS / "venv/bin/circusd")

    @classmethod
    def version(cls):
        return answer(str(PEERS / "venv/bin/python"), "-c", "import circus; print(circus.__version__)")

    def configure(self):
        text = (
            f"[circus]\nendpoint = ipc://{self.home}/endpoint\npubsub_endpoint = ipc://{self.home}/pubsub\n"
            "check_delay = 0.1\nwarmup_delay = 0\nstatsd = False\n"
        )
        for service in self.services:
            text += (
                f"\n[watcher:{service.name}]\ncmd = {service.command}\nnumprocesses = 1\nwarmup_delay = 0\nmax_retry = -1\n"
                f"graceful_timeout = 10\nstdout_stream.class = FileStream\nstdout_stream.filename = {self.log(service)}\n"
                f"stdout_stream.max_bytes = 10000000\nstdout_stream.backup_count = {self.keep}\n"
            )
        write(self.home / "circus.ini", text)

    def start(self):
        self.spawn(self.path(), self.home / "circus.ini")


ALL = [Loop, Keepwell, Dinit, Runit, S6, Supervisord, Pm2, Horust, Circus]


def install():
    """Fetches the peers that come from a package registry; what cannot be had is left out with a line."""
    steps = [
        ("runit and s6", ["apt-get", "install", "-y", "-q", "runit", "s6"]),
        ("a place for Python's", ["python3", "-m", "venv", PEERS / "venv"]),
        ("supervisord and Circus", [PEERS / "venv/bin/pip", "install", "-q", "supervisor", "circus", "setuptools"]),
        ("PM2", ["npm", "install", "--silent", "--prefix", PEERS / "npm", "pm2"]),
        ("Horust", ["cargo", "install", "--quiet", "--root", PEERS / "horust", "horust"]),
    ]
    PEERS.mkdir(parents=True, exist_ok=True)
    for what, words in steps:
        try:
            subprocess.run([str(word) for word in words], check=True)
            print(f"installed: {what}")
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"could not be had: {what} ({error})")
    if shutil.which("dinit") is None:
        print("not found: dinit, which is measured where it is in PATH")
