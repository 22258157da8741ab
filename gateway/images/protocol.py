"""What do the gateway and a decoding process say to each other? Two packets a picture.

The job names the claimed format and size and carries two anonymous files: the encoded picture, and
one of the size of its pixels, which both sides map. Standard library only: the process imports it.
"""

import struct
from enum import IntEnum
from typing import NamedTuple

_JOB = struct.Struct("<8sII")
_REPLY = struct.Struct("<BII32s")
JOB_BYTES = _JOB.size
REPLY_BYTES = _REPLY.size
CHANNELS = 3
"""Bytes of a pixel: red, green, blue."""


class Outcome(IntEnum):
    """What became of a picture. Codes, not texts: what a library says of a file stays there."""

    DECODED = 0
    BROKEN_HEADER = 1
    BROKEN_PIXELS = 2
    UNKNOWN_PIXELS = 3
    OUT_OF_MEMORY = 4


class Job(NamedTuple):
    """A picture to decode: its format and size as its header claims them."""

    image_format: str
    width: int
    height: int

    def pack(self) -> bytes:
        """Write the packet."""
        return _JOB.pack(self.image_format.encode(), self.width, self.height)

    @classmethod
    def unpack(cls, packet: bytes) -> "Job":
        """Read the packet."""
        image_format, width, height = _JOB.unpack(packet)
        return cls(image_format.rstrip(b"\0").decode(), width, height)


class Reply(NamedTuple):
    """What became of it; size and SHA-256 of the upright pixels if it was decoded."""

    outcome: Outcome
    width: int = 0
    height: int = 0
    digest: bytes = b""

    def pack(self) -> bytes:
        """Write the packet."""
        return _REPLY.pack(self.outcome, self.width, self.height, self.digest)

    @classmethod
    def unpack(cls, packet: bytes) -> "Reply":
        """Read the packet.

        Raises:
            ValueError: If it is none.
            struct.error: If it has another length.
        """
        outcome, width, height, digest = _REPLY.unpack(packet)
        return cls(Outcome(outcome), width, height, digest)
