"""Asks web for the next order, packs it, and rests when there is none."""

import json
import os
import signal
import sys
import time
import urllib.request

URL = f"http://127.0.0.1:{os.environ['PORT']}/next"
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def next_order():
    request = urllib.request.Request(URL, method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)["order"]


print("waiting for orders")
while True:
    order = next_order()
    if order is None:
        time.sleep(0.5)
        continue
    time.sleep(0.1)
    print(f"packed order {order}")
