"""How does the gateway hold a decoding process? By a channel, and by the right to kill it.

The process is a fresh interpreter with an empty environment that imports Pillow and little else
(`gateway.images.worker`), so it starts in a tenth of a second and needs some 20 MB. Pictures travel
in anonymous files: the pixels that it writes are mapped here and never copied.
"""

import contextlib
import fcntl
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np

from gateway.images.decoded import DecodedImage
from gateway.images.limits import Header, ImageLimits
from gateway.images.protocol import CHANNELS, REPLY_BYTES, Job, Outcome, Reply
from qzoom.errors import DeadlineExceeded, QZoomError, TooLarge, UnsupportedMedia

ALARM_GRACE_S = 1.0
"""The process ends itself so long after its time, should the gateway have died meanwhile."""

REAP_TIMEOUT_S = 5.0
PICTURES_PER_PROCESS = 1000
"""Then a new one takes over, so that nothing that a library leaks can add up."""

_ROOT = Path(__file__).parents[2]
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}


class ProcessLost(Exception):
    """The process ended, and not by its picture's fault: somebody killed it."""


class DecodeProcess:
    """One decoding process, replaced whenever it ends. Used by one thread at a time.

    Args:
        limits: Time and memory of a picture.
    """

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._num_decoded = 0
        self._is_retired = False
        self.start()

    @property
    def pid(self) -> int | None:
        """Its id; None while there is none."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process, unless there is one.

        Raises:
            OSError: If the machine has no room for it, or it is retired.
        """
        if self._process is not None:
            return
        if self._is_retired:
            raise OSError("retired")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [
                        *(sys.executable, "-P", "-W", "ignore", "-m", "gateway.images.worker"),
                        str(theirs.fileno()),
                        str(self._limits.decode_memory_bytes),
                        str(self._limits.decode_cpu_s),
                        str(self._limits.decode_timeout_s + ALARM_GRACE_S),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # Libraries write there what they find in files.
                    pass_fds=[theirs.fileno()],
                    env=_environment(),
                    cwd="/",
                )
            except OSError:
                ours.close()
                raise
        ours.settimeout(self._limits.decode_timeout_s)
        self._channel = ours
        self._num_decoded = 0

    def decode(self, data: bytes, header: Header, param: str) -> DecodedImage:
        """Decode a picture; waits for it, at most `decode_timeout_s`.

        Args:
            data: The file.
            header: What `read_header` says of it.
            param: Field of the request that it came from.

        Raises:
            UnsupportedMedia: If it is truncated, broken, or holds no colours that we know.
            TooLarge: If it needs more computing or memory than a picture may.
            DeadlineExceeded: If it is not done in time all the same: the machine is too slow.
            ProcessLost: If the process was killed; a new one is ready.
            OSError: If the machine has no room.
        """
        self.start()
        try:
            reply, pixels = self._exchange(data, header)
        except TimeoutError:
            self._replace()
            raise self._late(param) from None
        except (ConnectionError, ValueError, struct.error):
            raise self._explain_end(self._replace(), param) from None
        if reply.outcome is not Outcome.DECODED:
            if reply.outcome is Outcome.OUT_OF_MEMORY:
                self._replace()
            raise self._refusal(reply.outcome, param)
        self._num_decoded += 1
        if self._num_decoded >= PICTURES_PER_PROCESS:
            self._replace()
        shape = (reply.height, reply.width, CHANNELS)
        return DecodedImage(np.frombuffer(pixels, np.uint8).reshape(shape), reply.digest.hex())

    def retire(self) -> None:
        """Kill the process for good. The one method for other threads; its user then closes it."""
        self._is_retired = True
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(REAP_TIMEOUT_S)
            self._process = None

    def _exchange(self, data: bytes, header: Header) -> tuple[Reply, mmap.mmap]:
        assert self._channel is not None
        width, height = header.size_px
        num_bytes = CHANNELS * header.num_pixels
        encoded = os.memfd_create("encoded")
        decoded = os.memfd_create("decoded", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(encoded, "wb", closefd=False) as file:
                file.write(data)
            os.lseek(encoded, 0, os.SEEK_SET)
            os.truncate(decoded, num_bytes)
            # A file that shrinks under a mapping would kill the gateway at its next look.
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(decoded, fcntl.F_ADD_SEALS, seals)
            packet = Job(header.image_format, width, height).pack()
            socket.send_fds(self._channel, [packet], [encoded, decoded])
            reply = Reply.unpack(self._channel.recv(REPLY_BYTES))
            if reply.outcome is Outcome.DECODED and reply.width * reply.height * 3 != num_bytes:
                raise ValueError("the pixels have another size")
            return reply, mmap.mmap(decoded, num_bytes, prot=mmap.PROT_READ)
        finally:
            os.close(encoded)
            os.close(decoded)

    def _replace(self) -> int:
        """End the process, start the next, and return what the old one's end was."""
        assert self._process is not None
        ended = self._process
        self.close()
        with contextlib.suppress(OSError):  # The next picture tries again.
            self.start()
        return ended.returncode or 0

    def _explain_end(self, return_code: int, param: str) -> QZoomError | ProcessLost:
        if -return_code == signal.SIGALRM:
            return self._late(param)
        if -return_code == signal.SIGPROF:
            cpu_s = self._limits.decode_cpu_s
            return TooLarge(f"{param} takes more than {cpu_s:g} s to decode", param=param)
        if -return_code in _CRASHES:
            return self._refusal(Outcome.BROKEN_PIXELS, param)
        return ProcessLost(f"ended with {return_code}")

    def _late(self, param: str) -> DeadlineExceeded:
        timeout_s = self._limits.decode_timeout_s
        return DeadlineExceeded(f"{param} was not decoded within {timeout_s:g} s", param=param)

    def _refusal(self, outcome: Outcome, param: str) -> QZoomError:
        if outcome is Outcome.OUT_OF_MEMORY:
            return TooLarge(
                f"{param} takes more than {self._limits.decode_memory_bytes} bytes of memory "
                "to decode",
                param=param,
            )
        return UnsupportedMedia(f"{param} {_REFUSALS[outcome]}", param=param)


_REFUSALS = {
    Outcome.BROKEN_HEADER: "is broken: its header cannot be read",
    Outcome.BROKEN_PIXELS: "is broken or truncated: its pixels cannot be decoded",
    Outcome.UNKNOWN_PIXELS: "has pixels of a kind that is not supported: "
    "grey, RGB, CMYK and palettes are",
}


def _environment() -> dict[str, str]:
    """Keep secrets of the gateway's environment from a process that reads hostile files."""
    kept = {"PYTHONPATH": str(_ROOT)}
    if "LD_LIBRARY_PATH" in os.environ:  # Where some builds of Python find their own library.
        kept["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return kept
