"""Keeps 4 MB of each second."""

import time

kept = []
while True:
    kept.append(bytearray(b"x" * 1_000_000))
    time.sleep(0.25)
