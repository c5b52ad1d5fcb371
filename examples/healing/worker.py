"""Works, and says so twice a second; after 6 seconds it waits for a lock that nobody will ever release."""

import threading
import time

import keepwell_heartbeat

guardian = keepwell_heartbeat.from_env()
for piece in range(12):
    guardian.beat()
    print(f"piece {piece} is done")
    time.sleep(0.5)
print("waiting for a lock")
lock = threading.Lock()
lock.acquire()
lock.acquire()
