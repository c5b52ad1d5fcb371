"""Fails on its first two attempts after an `up`, then works until it is stopped."""

import os
import signal
import sqlite3
import sys
import time

with sqlite3.connect(os.environ["DATABASE"], timeout=5) as db:
    attempt = db.execute("INSERT INTO attempts DEFAULT VALUES").lastrowid

time.sleep(0.3)
if attempt <= 2:
    print(f"attempt {attempt}: the supplier does not answer", file=sys.stderr)
    sys.exit(3)
print(f"attempt {attempt}: working at last")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    time.sleep(3600)
