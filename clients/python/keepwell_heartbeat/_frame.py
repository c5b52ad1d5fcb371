"""One frame as bytes, and bytes as frames."""

import struct
import zlib

MAGIC = b"\x4d\x53"
HEADER = 11
MAX_PAYLOAD = 64 << 10

HEARTBEAT = 0x01
STATUS = 0x02
HELLO = 0x10
READY = 0x11
STOPPING = 0x12
EXTEND_TIMEOUT = 0x13
#: Set in the command of an answer.
ANSWER = 0x80
#: The command of the answer to what cannot be taken.
REFUSED = 0xFF


class FrameError(ValueError):
    """Bytes that are no frame. `code` is `magic`, `length` or `checksum`."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def encode(command, payload=b""):
    """A frame."""
    if len(payload) > MAX_PAYLOAD:
        raise FrameError("length", f"a payload has at most {MAX_PAYLOAD} bytes, not {len(payload)}")
    return MAGIC + struct.pack("<BII", command, len(payload), zlib.crc32(payload)) + payload


def decode(data):
    """The first frame of `data` as (command, payload, length in all); None: there is more to come."""
    if len(data) >= 2 and data[:2] != MAGIC:
        raise FrameError("magic", f"a frame begins with 4D 53, not with {data[0]:02X} {data[1]:02X}")
    if len(data) < 7:
        return None
    length = int.from_bytes(data[3:7], "little")
    if length > MAX_PAYLOAD:
        raise FrameError("length", f"a payload has at most {MAX_PAYLOAD} bytes, not {length}")
    end = HEADER + length
    if len(data) < end:
        return None
    said, payload = int.from_bytes(data[7:11], "little"), bytes(data[11:end])
    found = zlib.crc32(payload)
    if said != found:
        raise FrameError("checksum", f"the payload's CRC-32 is {found:08X}, and the frame says {said:08X}")
    return data[2], payload, end
