import json
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1]))

from keepwell_heartbeat import MAX_PAYLOAD, FrameError, decode, encode
from keepwell_heartbeat._client import payload_of

VECTORS = json.loads((HERE.parents[3] / "docs/heartbeat-vectors.json").read_text(encoding="utf-8"))


class Frames(unittest.TestCase):
    def test_the_vectors_of_frames_hold_in_both_directions(self):
        self.assertGreaterEqual(len(VECTORS["frames"]), 10)
        for vector in VECTORS["frames"]:
            with self.subTest(vector["name"]):
                payload, frame = bytes.fromhex(vector["payload"]), bytes.fromhex(vector["frame"])
                self.assertEqual(encode(vector["command"], payload), frame)
                self.assertEqual(decode(frame), (vector["command"], payload, len(frame)))
                self.assertEqual(decode(frame + b"more"), (vector["command"], payload, len(frame)))
                for cut in range(len(frame)):
                    self.assertIsNone(decode(frame[:cut]))

    def test_the_vectors_of_broken_frames_are_told_apart(self):
        self.assertGreaterEqual(len(VECTORS["broken"]), 10)
        for vector in VECTORS["broken"]:
            with self.subTest(vector["name"]):
                data = bytes.fromhex(vector["bytes"])
                if vector["error"] == "incomplete":
                    self.assertIsNone(decode(data))
                    continue
                with self.assertRaises(FrameError) as raised:
                    decode(data)
                self.assertEqual(raised.exception.code, vector["error"])

    def test_the_vectors_of_reports_are_what_the_client_sends(self):
        tried = 0
        for vector in VECTORS["reports"]:
            report = vector.get("report", {})
            if "seq" in report:
                tried += 1
                with self.subTest(vector["name"]):
                    sent = payload_of(report["from"], report["seq"], report.get("status"), report.get("metrics"))
                    self.assertEqual(json.loads(sent), report)
        self.assertGreaterEqual(tried, 2)

    def test_a_payload_that_is_too_long_is_not_sent(self):
        self.assertEqual(decode(encode(1, b"x" * MAX_PAYLOAD))[1], b"x" * MAX_PAYLOAD)
        with self.assertRaises(FrameError):
            encode(1, b"x" * (MAX_PAYLOAD + 1))


if __name__ == "__main__":
    unittest.main()
