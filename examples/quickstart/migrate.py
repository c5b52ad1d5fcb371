"""Makes the shop's tables, then ends."""

import os
import sqlite3

with sqlite3.connect(os.environ["DATABASE"]) as db:
    db.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, packed INTEGER NOT NULL DEFAULT 0)")
    db.execute("CREATE TABLE IF NOT EXISTS attempts (id INTEGER PRIMARY KEY)")
    # flaky counts its attempts here; each `up` tells its story from the beginning.
    db.execute("DELETE FROM attempts")
    (orders,) = db.execute("SELECT count(*) FROM orders").fetchone()
print(f"the tables are there; {orders} orders so far")
