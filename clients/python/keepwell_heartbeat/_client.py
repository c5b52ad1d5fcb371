"""The client: what to say, to whom, and what to do while nobody listens."""

import itertools
import json
import math
import os
import queue
import socket
import threading
import time

from . import _frame

#: A call waits no longer than twice this: once for a connection that has died, once for a new one.
TIMEOUT = 1.0
#: Reports that wait at most.
QUEUE = 64
#: Seconds between two attempts to connect, doubling from the first to the second.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

_clients = itertools.count()


class Refused(Exception):
    """keepwell said no; its text begins with a word of the protocol, such as `token: `. It is not said again."""


def from_env(environ=None):
    """The client for what KEEPWELL_HEARTBEAT and KEEPWELL_TOKEN say; None: nobody waits for beats."""
    environ = os.environ if environ is None else environ
    endpoint = environ.get("KEEPWELL_HEARTBEAT")
    return Client(endpoint, environ.get("KEEPWELL_TOKEN")) if endpoint else None


def kind_of(endpoint):
    """`pipe`, `socket` or `tcp`."""
    if endpoint.startswith("\\\\.\\pipe\\"):
        return "pipe"
    _, colon, port = endpoint.rpartition(":")
    is_port = bool(colon) and port.isascii() and port.isdigit() and int(port) <= 65535
    return "tcp" if is_port and not set("/\\") & set(endpoint) else "socket"


class Client:
    """The way to the guardian of this program. It connects at its first use and again whenever it must."""

    def __init__(self, endpoint, token=None, timeout=TIMEOUT, reports=QUEUE):
        self.timeout = timeout
        #: How many reports were forgotten because too many waited.
        self.forgotten = 0
        self._endpoint, self._token = endpoint, token
        self._reports = max(1, reports)
        self._connection = None
        self._waiting = []
        self._pause, self._next = None, 0.0
        self._seq = 0
        # No two clients of one service have the same name, nor does one get it whose process has the pid later.
        self._name = f"{os.getpid()}-{next(_clients)}-{time.time_ns() // 1000:x}"
        self._lock = threading.Lock()

    @property
    def waiting(self):
        """How much waits."""
        return len(self._waiting)

    def beat(self):
        """The program works."""
        with self._lock:
            if not self._flush():
                return False
            answer = self._attempt(_frame.encode(_frame.HEARTBEAT))
            return answer is not None and _judge(answer)

    def ready(self):
        """The program is ready."""
        return self._say(_frame.READY)

    def stopping(self):
        """The program is on its way down."""
        return self._say(_frame.STOPPING)

    def extend_timeout(self, seconds):
        """The program needs so much longer, from now on, to become ready or to stop."""
        millis = min(max(0, int(seconds * 1000)), 0xFFFFFFFF)
        return self._say(_frame.EXTEND_TIMEOUT, millis.to_bytes(4, "little"))

    def report(self, status=None, metrics=None):
        """A line for operators, and numbers of the program's own by name."""
        with self._lock:
            payload = payload_of(self._name, self._seq + 1, status, metrics)
            frame = _frame.encode(_frame.STATUS, payload)
            self._seq += 1
            self._keep(_frame.STATUS, frame)
            return self._flush()

    def flush(self):
        """Sends what waits."""
        with self._lock:
            return self._flush()

    def close(self):
        """Ends the connection; a later call opens it again."""
        with self._lock:
            self._disconnect()

    def _say(self, command, payload=b""):
        with self._lock:
            self._keep(command, _frame.encode(command, payload))
            return self._flush()

    def _keep(self, command, frame):
        if command != _frame.STATUS:
            # Of these the last one says all.
            self._waiting = [kept for kept in self._waiting if kept[0] != command]
        else:
            reports = [kept for kept in self._waiting if kept[0] == command]
            if len(reports) >= self._reports:
                self._waiting.remove(reports[0])
                self.forgotten += 1
        self._waiting.append((command, frame))

    def _flush(self):
        while self._waiting:
            answer = self._attempt(self._waiting[0][1])
            if answer is None:
                return False
            self._waiting.pop(0)
            _judge(answer)
        return True

    def _attempt(self, frame):
        """The answer, or None."""
        if self._connection is not None:
            try:
                return self._answered(self._connection.exchange(frame, self.timeout))
            except (OSError, _frame.FrameError):
                # It was good before: keepwell has replaced its daemon, and the next one listens already.
                self._disconnect()
        if time.monotonic() < self._next:
            return None
        try:
            answer = self._connect_and_send(frame)
        except (OSError, _frame.FrameError):
            self._disconnect()
            self._pause = FIRST_PAUSE if self._pause is None else min(self._pause * 2, LONGEST_PAUSE)
            self._next = time.monotonic() + self._pause
            return None
        self._pause, self._next = None, 0.0
        return self._answered(answer)

    def _connect_and_send(self, frame):
        kind = kind_of(self._endpoint)
        if kind == "pipe":
            self._connection = _Pipe(self._endpoint)
        else:
            self._connection = _Socket(kind, self._endpoint, self.timeout)
        if kind == "tcp" and self._token:
            answer = self._connection.exchange(_frame.encode(_frame.HELLO, self._token.encode()), self.timeout)
            if answer[0] == _frame.REFUSED:
                return answer
        return self._connection.exchange(frame, self.timeout)

    def _answered(self, answer):
        # keepwell closes after most of its refusals, and a new connection is cheap after the others.
        if answer[0] == _frame.REFUSED:
            self._disconnect()
        return answer

    def _disconnect(self):
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def payload_of(name, seq, status, metrics):
    """A status report as JSON."""
    report = {"from": name, "seq": seq}
    if status is not None:
        report["status"] = status
    if metrics:
        if not all(math.isfinite(value) for value in metrics.values()):
            raise ValueError("a metric is a finite number")
        report["metrics"] = dict(metrics)
    return json.dumps(report, ensure_ascii=False).encode()


def _judge(answer):
    command, payload = answer
    if command == _frame.REFUSED:
        raise Refused(payload.decode(errors="replace"))
    if not command & _frame.ANSWER:
        raise Refused(f"the answer {command:02X} is none")
    return True


def _exchange(send, receive, frame, held):
    send(frame)
    while True:
        decoded = _frame.decode(held)
        if decoded is not None:
            command, payload, length = decoded
            del held[:length]
            return command, payload
        piece = receive()
        if not piece:
            raise ConnectionError("keepwell hung up")
        held += piece


class _Socket:
    def __init__(self, kind, endpoint, timeout):
        if kind == "tcp":
            host, _, port = endpoint.rpartition(":")
            self._socket = socket.create_connection((host.strip("[]"), int(port)), timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            if not hasattr(socket, "AF_UNIX"):
                raise OSError("this Python has no Unix sockets")
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._socket.settimeout(timeout)
                self._socket.connect(endpoint)
            except OSError:
                self._socket.close()
                raise
        self._held = bytearray()

    def exchange(self, frame, timeout):
        until = time.monotonic() + timeout
        self._socket.settimeout(timeout)

        def receive():
            # An answer that comes byte by byte is bounded too.
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError("no answer")
            self._socket.settimeout(left)
            return self._socket.recv(4096)

        return _exchange(self._socket.sendall, receive, frame, self._held)

    def close(self):
        self._socket.close()


class _Pipe:
    """A pipe's reads and writes know no timeout, so they happen on a thread of their own. One that is given up ends
    when keepwell closes its side, or answers."""

    def __init__(self, name):
        self._pipe = open(name, "r+b", buffering=0)
        self._frames, self._answers = queue.Queue(), queue.Queue()
        threading.Thread(target=self._work, name="keepwell-beat", daemon=True).start()

    def exchange(self, frame, timeout):
        self._frames.put(frame)
        try:
            answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError("no answer") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        self._frames.put(None)

    def _work(self):
        held = bytearray()
        with self._pipe as pipe:
            for frame in iter(self._frames.get, None):
                try:
                    self._answers.put(_exchange(pipe.write, lambda: pipe.read(4096), frame, held))
                except (OSError, _frame.FrameError) as error:
                    self._answers.put(error)
                    return
