"""Takes an order at each visit of /, and hands them to the worker at /next."""

import json
import os
import signal
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def database():
    return sqlite3.connect(os.environ["DATABASE"], timeout=5)


class Shop(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            self.answer("text/plain", "fine\n")
        elif self.path == "/":
            with database() as db:
                number = db.execute("INSERT INTO orders DEFAULT VALUES").lastrowid
                (packed,) = db.execute("SELECT count(*) FROM orders WHERE packed").fetchone()
            print(f"took order {number}")
            self.answer("text/plain", f"Thank you for order {number}. {packed} are packed already.\n")
        else:
            self.send_error(404)

    def do_POST(self):
        if self.path != "/next":
            return self.send_error(404)
        with database() as db:
            row = db.execute("SELECT id FROM orders WHERE NOT packed ORDER BY id LIMIT 1").fetchone()
            if row:
                db.execute("UPDATE orders SET packed = 1 WHERE id = ?", row)
        self.answer("application/json", json.dumps({"order": row and row[0]}))

    def answer(self, kind, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def stop(*_):
    print("closing the shop")
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
port = int(os.environ["PORT"])
try:
    server = ThreadingHTTPServer(("127.0.0.1", port), Shop)
except OSError as error:
    sys.exit(f"port {port} cannot be used: {error.strerror}; change PORT in keepwell.toml")
print(f"open on http://127.0.0.1:{port}/")
server.serve_forever()
