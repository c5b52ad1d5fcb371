"""The Windows bench's own tests: `python3 -m unittest discover bench`."""

import pathlib
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import windows


class Windows(unittest.TestCase):
    def test_a_dll_that_windows_does_not_have_is_named(self):
        listed = "DLL Name: KERNEL32.dll\n DLL Name: api-ms-win-core-synch-l1-2-0.dll\n DLL Name: libgcc_s_seh-1.dll\n"
        self.assertEqual(windows.foreign(listed), ["libgcc_s_seh-1.dll"])

    def test_a_record_that_is_being_written_is_not_read(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "record")
            self.assertEqual(windows.moments(path), [])
            path.write_bytes(struct.pack("=qq", 7, 9) + b"\0\0\0")
            self.assertEqual(windows.moments(path), [700, 900])

    def test_a_missed_bar_is_said(self):
        both = lambda own, other: {"kw": {"rss": own, "pss": own}, "nssm": {"rss": other, "pss": other}}
        found = {
            "busy": 0.0, "rounds": 30, "restart": {"kw": 50.0, "nssm": 100.0}, "one": both(43.0, 29.0), "many": both(45.0, 145.0),
            "parts": {"anchor": (20.0, 5), "daemon": (23.0, 9)}, "bare": 7.0, "dispatcher": {"kw": 60.0, "nssm": 45.0}, "size": 6 << 20, "foreign": [],
        }
        rows = {line.split(" | ")[0]: line for line in windows.page(found).splitlines()}
        self.assertIn("1.48 × | ≤ 1.2 × | **not met**", rows["| one service, RSS, MB"])
        self.assertIn("1.33 × | – |", rows["| StartService, ms"])
        self.assertIn("50 ms: not shown", windows.page(found))
        self.assertIn("the anchor has 20.0 MB (5 threads) and the daemon has 23.0 MB (9 threads); two processes", windows.page(found))
        self.assertIn("| 0.50 × | ≤ 1 × | met |", rows["| kill → first instruction of the next, ms"])


if __name__ == "__main__":
    unittest.main()
