"""Asks web for the next order, packs it, and rests when there is none."""

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request

URL = f"http://127.0.0.1:{os.environ['PORT']}/next"
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def next_order():
    request = urllib.request.Request(URL, method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)["order"]


print("waiting for orders")
away = False
while True:
    try:
        order = next_order()
    except (urllib.error.URLError, OSError):
        # web is being restarted, or an operator stopped it: no reason to end.
        if not away:
            print("web does not answer; asking again until it does")
        away = True
        time.sleep(0.5)
        continue
    if away:
        print("web is back")
    away = False
    if order is None:
        time.sleep(0.5)
        continue
    time.sleep(0.1)
    print(f"packed order {order}")
