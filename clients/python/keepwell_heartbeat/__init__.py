"""Tells the keepwell that guards this program that it works.

A beat says that the program's work goes on, so it belongs into the loop that does the work. The bytes are those of
docs/heartbeat-protocol.md in keepwell's repository.
"""

from ._client import Client, Refused, from_env
from ._frame import (
    ANSWER,
    EXTEND_TIMEOUT,
    HEADER,
    HEARTBEAT,
    HELLO,
    MAX_PAYLOAD,
    READY,
    REFUSED,
    STATUS,
    STOPPING,
    FrameError,
    decode,
    encode,
)

__all__ = [
    "ANSWER",
    "EXTEND_TIMEOUT",
    "HEADER",
    "HEARTBEAT",
    "HELLO",
    "MAX_PAYLOAD",
    "READY",
    "REFUSED",
    "STATUS",
    "STOPPING",
    "Client",
    "FrameError",
    "Refused",
    "decode",
    "encode",
    "from_env",
]
