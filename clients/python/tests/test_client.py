import json
import os
import socket
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from keepwell_heartbeat import (
    ANSWER,
    EXTEND_TIMEOUT,
    HEARTBEAT,
    HELLO,
    READY,
    REFUSED,
    STATUS,
    STOPPING,
    Client,
    Refused,
    decode,
    encode,
    from_env,
)
from keepwell_heartbeat._client import kind_of

PATIENCE = 30


class Guardian:
    """Answers as keepwell does and remembers what came. `judge(command)` gives the command of the answer, or None to
    hang up instead."""

    def __init__(self, listener, judge=lambda command: ANSWER | command):
        self.heard, self._judge = [], judge
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def _serve(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                self._converse(connection)

    def _converse(self, connection):
        held = b""
        try:
            while piece := connection.recv(64):
                held += piece
                while decoded := decode(held):
                    command, payload, length = decoded
                    held = held[length:]
                    self.heard.append((command, payload))
                    answer = self._judge(command)
                    if answer is None:
                        return
                    connection.sendall(encode(answer, payload))
        except OSError:
            return

    def commands(self):
        return [command for command, _ in self.heard]


class Clients(unittest.TestCase):
    def listen(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        return listener, f"127.0.0.1:{listener.getsockname()[1]}"

    def client(self, endpoint, token=None, timeout=PATIENCE, **settings):
        client = Client(endpoint, token, timeout, **settings)
        self.addCleanup(client.close)
        return client

    def test_what_a_program_says_arrives_as_the_frames_of_the_protocol(self):
        listener, endpoint = self.listen()
        guardian = Guardian(listener)
        client = self.client(endpoint, "secret")
        self.assertTrue(client.beat())
        self.assertTrue(client.ready())
        self.assertTrue(client.extend_timeout(90))
        self.assertTrue(client.report("serving", {"queue.length": 3}))
        self.assertTrue(client.stopping())
        self.assertEqual(guardian.commands(), [HELLO, HEARTBEAT, READY, EXTEND_TIMEOUT, STATUS, STOPPING])
        self.assertEqual(guardian.heard[0][1], b"secret")
        self.assertEqual(guardian.heard[3][1], (90_000).to_bytes(4, "little"))
        report = json.loads(guardian.heard[4][1])
        self.assertEqual((report["status"], report["seq"], report["metrics"]), ("serving", 1, {"queue.length": 3}))

    @unittest.skipUnless(hasattr(socket, "AF_UNIX"), "this Python has no Unix sockets")
    def test_a_socket_needs_no_handshake(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "beat")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(path)
                listener.listen()
                guardian = Guardian(listener)
                client = from_env({"KEEPWELL_HEARTBEAT": path, "KEEPWELL_TOKEN": "secret"})
                client.timeout = PATIENCE
                self.assertTrue(client.beat())
                self.assertEqual(guardian.commands(), [HEARTBEAT])
                client.close()

    def test_what_was_said_while_nobody_listened_comes_later_once_and_in_order(self):
        listener, endpoint = self.listen()
        client = self.client(endpoint, timeout=0.02, reports=3)
        self.assertFalse(client.beat())
        for number in range(1, 6):
            self.assertFalse(client.report(str(number)))
        self.assertEqual((client.waiting, client.forgotten), (3, 2))
        guardian = Guardian(listener)
        client.timeout = PATIENCE
        begin = time.monotonic()
        while not client.flush():
            self.assertLess(time.monotonic() - begin, PATIENCE)
            time.sleep(0.005)
        last, taken = 0, []
        for payload in [payload for command, payload in list(guardian.heard) if command == STATUS]:
            report = json.loads(payload)
            # As the receiver does it.
            if report["seq"] > last:
                last = report["seq"]
                taken.append(report["status"])
        self.assertEqual(taken[-3:], ["3", "4", "5"])

    def test_a_report_whose_answer_was_lost_is_sent_again_with_its_number(self):
        listener, endpoint = self.listen()
        lost = []

        def judge(command):
            if command == STATUS and not lost:
                lost.append(command)
                return None
            return ANSWER | command

        guardian = Guardian(listener, judge)
        client = self.client(endpoint)
        self.assertTrue(client.beat())
        self.assertTrue(client.report("once"))
        self.assertEqual(guardian.commands(), [HEARTBEAT, STATUS, STATUS])
        self.assertEqual(guardian.heard[1], guardian.heard[2])

    def test_what_was_refused_is_told_and_not_said_again(self):
        listener, endpoint = self.listen()
        guardian = Guardian(listener, lambda command: REFUSED if command == STATUS else ANSWER | command)
        client = self.client(endpoint)
        with self.assertRaises(Refused):
            client.report("x")
        self.assertEqual(client.waiting, 0)
        self.assertTrue(client.beat())
        self.assertEqual(guardian.commands(), [STATUS, HEARTBEAT])

    def test_without_a_guardian_calls_return_and_nothing_is_lost(self):
        client = self.client("no/such/socket")
        self.assertFalse(client.beat())
        self.assertFalse(client.ready())
        self.assertFalse(client.ready())
        self.assertEqual(client.waiting, 1)
        self.assertIsNone(from_env({}))

    def test_an_endpoint_is_told_by_its_form(self):
        for endpoint, kind in {
            "/run/keepwell/web.beat": "socket",
            "/run/a:80": "socket",
            "C:\\state\\web.beat": "socket",
            "web.beat": "socket",
            "\\\\.\\pipe\\keepwell-web": "pipe",
            "127.0.0.1:9751": "tcp",
            "[::1]:9751": "tcp",
            "localhost:99999": "socket",
        }.items():
            self.assertEqual(kind_of(endpoint), kind, endpoint)

    def test_what_is_no_number_is_not_sent(self):
        client = self.client("no/such/socket")
        with self.assertRaises(ValueError):
            client.report(metrics={"load": float("nan")})
        self.assertEqual(client.waiting, 0)


if __name__ == "__main__":
    unittest.main()
