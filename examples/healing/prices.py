"""Cannot reach its source for the first three times, and works from then on."""

import pathlib
import sys
import time

tries = pathlib.Path("prices.tries")
number = int(tries.read_text()) + 1 if tries.exists() else 1
time.sleep(0.5)
if number <= 3:
    tries.write_text(str(number))
    sys.exit("the exchange does not answer")
tries.unlink()
print("prices are here", flush=True)
time.sleep(1e6)
