"""The bench's own tests: `python3 -m unittest discover bench`."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import types
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import machine
import metrics
import report

COUNT = 40


def line(number):
    body = bytes(ord("a") + column % 26 for column in range(metrics.LINE))
    return b"%012d " % number + body[13:119] + b"\n"


class CheckLines(unittest.TestCase):
    """What a flood wrote is found out to be whole or not."""

    def check(self, files, all_of_them=True):
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for number, data in enumerate(files):
                paths.append(pathlib.Path(folder) / str(number))
                paths[-1].write_bytes(data)
            guardian = types.SimpleNamespace(services=[None], log_files=lambda _: paths)
            session = types.SimpleNamespace(guardian=guardian)
            return metrics.check_lines(session, COUNT * metrics.LINE, all_of_them)

    def setUp(self):
        self.all = b"".join(line(n) for n in range(COUNT))

    def test_every_line_once_is_fine_wherever_files_begin(self):
        self.assertEqual(self.check([self.all]), "")
        self.assertEqual(self.check([self.all[:1000], self.all[1000:]]), "")

    def test_the_kept_end_may_begin_anywhere_but_has_no_gap(self):
        self.assertEqual(self.check([self.all[1234:]], all_of_them=False), "")
        self.assertEqual(self.check([self.all[1200:2400] + self.all[2520:]], all_of_them=False), "1 gaps or repetitions")

    def test_a_missing_beginning_is_seen_when_all_is_kept(self):
        self.assertEqual(self.check([self.all[metrics.LINE :]]), "1 gaps or repetitions")

    def test_a_line_lost_doubled_torn_or_the_last_is_seen(self):
        size = metrics.LINE
        self.assertEqual(self.check([self.all[: 5 * size] + self.all[6 * size :]]), "1 gaps or repetitions")
        self.assertEqual(self.check([self.all[: 6 * size] + self.all[5 * size :]]), "1 gaps or repetitions")
        self.assertEqual(self.check([self.all[: 5 * size + 50] + self.all[5 * size + 60 :]]), "1 torn lines, 1 gaps or repetitions")
        self.assertEqual(self.check([self.all[:-size]]), "the end is missing")
        self.assertEqual(self.check([self.all[:-10]]), "the end is missing")
        self.assertEqual(self.check([]), "the end is missing")


class Wakeups(unittest.TestCase):
    """Waits are counted by thread."""

    def test_a_thread_that_comes_or_goes_does_not_hide_the_others(self):
        before = {"lasting": 10, "ended": 100}
        self.assertEqual(machine.wakeups(before, {"lasting": 12, "new": 3}), 2 + 1 + 3)
        self.assertEqual(machine.wakeups(before, before), 0)


class Bars(unittest.TestCase):
    """A bar is met or not by the best of the rounds."""

    def result(self, loop, keepwell):
        return {"services": 1000, "rounds": {"C loop": loop, "keepwell": keepwell}}

    def test_the_ratio_of_the_best_rounds_decides(self):
        text, missed = report.bars(self.result([{"start": 200}, {"start": 100}], [{"start": 174}, {"start": 400}]))
        self.assertIn("1.74 ×", text)
        self.assertEqual(missed, 0)
        self.assertEqual(report.bars(self.result([{"start": 100}], [{"start": 176}]))[1], 1)

    def test_more_is_better_for_throughput(self):
        self.assertEqual(report.bars(self.result([{"log": 1000}], [{"log": 951}]))[1], 0)
        self.assertEqual(report.bars(self.result([{"log": 1000}], [{"log": 949}]))[1], 1)

    def test_one_wakeup_is_one_too_many(self):
        self.assertEqual(report.bars(self.result([], [{"wakeups": 0.0}]))[1], 0)
        self.assertEqual(report.bars(self.result([], [{"wakeups": 0.03}]))[1], 1)

    def test_what_was_not_measured_has_no_bar(self):
        self.assertEqual(report.bars(self.result([], [])), ("", 0))

    def test_a_page_is_written_between_its_marks_only(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "page.md"
            path.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
            report.write_into(path, "new")
            self.assertEqual(path.read_text(), f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n")


class Helpers(unittest.TestCase):
    """The C programs do what the measurements take for granted."""

    @classmethod
    def setUpClass(cls):
        machine.prepare()

    def wait_for_lines(self, path, count):
        """A program says that it runs before it writes."""
        deadline = time.monotonic() + 10
        while pathlib.Path(path).read_bytes().count(b"\n") < count:
            self.assertLess(time.monotonic(), deadline, f"{path} has less than {count} lines")
            time.sleep(0.001)

    def test_the_loop_starts_a_killed_service_again_and_ends_with_the_last(self):
        with tempfile.TemporaryDirectory() as folder:
            fifo = machine.Fifo(f"{folder}/records")
            pathlib.Path(folder, "table").write_text(f"{folder}/out.log\t{machine.CHILD} {fifo.path} 7\n")
            loop = subprocess.Popen([machine.LOOP, f"{folder}/table"])
            try:
                [(service, first, moment, begun)] = fifo.take(10)
                self.assertEqual((service, moment), (7, machine.STARTED))
                self.wait_for_lines(f"{folder}/out.log", 1)
                os.kill(first, signal.SIGKILL)
                [(_, second, _, again)] = fifo.take(10)
                self.assertNotEqual(first, second)
                self.assertGreater(again, begun)
                self.wait_for_lines(f"{folder}/out.log", 2)
            finally:
                loop.terminate()
            self.assertEqual(loop.wait(10), 0)
            self.assertEqual(pathlib.Path(folder, "out.log").read_bytes(), b"started\n" * 2)
            fifo.close()

    def test_a_flood_waits_for_the_word_and_writes_every_line(self):
        with tempfile.TemporaryDirectory() as folder:
            fifo = machine.Fifo(f"{folder}/records")
            os.mkfifo(f"{folder}/go")
            for mode in ("block", "line"):
                size = 3000 * metrics.LINE
                with open(f"{folder}/out", "wb") as out:
                    flood = subprocess.Popen([machine.FLOOD, fifo.path, f"{folder}/go", str(size), mode], stdout=out)
                self.assertEqual(fifo.take(0.2), [])
                os.close(os.open(f"{folder}/go", os.O_WRONLY))
                moments = []
                while len(moments) < 2:
                    moments += [moment for _, _, moment, _ in fifo.take(10)]
                flood.kill()
                flood.wait()
                self.assertEqual(moments, [machine.STARTED, machine.WROTE_ALL])
                self.assertEqual(pathlib.Path(folder, "out").read_bytes(), b"".join(line(n) for n in range(3000)))
            fifo.close()


if __name__ == "__main__":
    unittest.main()
