"""Answers well for 8 seconds, and then says at each request that it cannot reach its database."""

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WELL = 8


class Web(BaseHTTPRequestHandler):
    def do_GET(self):
        well = time.monotonic() - started < WELL
        body = b"fine\n" if well else b"the database does not answer\n"
        self.send_response(200 if well else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


started = time.monotonic()
port = int(os.environ["PORT"])
try:
    server = ThreadingHTTPServer(("127.0.0.1", port), Web)
except OSError as error:
    sys.exit(f"port {port} cannot be used: {error.strerror}; change PORT in keepwell.toml")
print(f"open on http://127.0.0.1:{port}/")
server.serve_forever()
