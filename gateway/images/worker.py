"""A decoding process: takes pictures from the gateway until the gateway leaves.

It holds nothing but Pillow and the file at hand: no environment, no other open files, a limit on
its memory, and an alarm that ends it should nobody else do so. When the machine runs out of memory,
it is the first to go.
"""

import contextlib
import copy
import errno
import mmap
import os
import resource
import signal
import socket
import sys

from PIL import Image, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin

from gateway.images.convert import Refused, decode
from gateway.images.protocol import CHANNELS, JOB_BYTES, Job, Outcome, Reply

# What Pillow imports when it is needed must be there before the right to open files is given up.
Image.preinit()
LATE_IMPORTS = (copy, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin)

CHANNEL_FD = 3
"""The lowest that is free, so that the limit on open files leaves no room."""


def confine(memory_bytes: int, last_fd: int) -> None:
    """Give up what decoding does not need.

    Args:
        memory_bytes: Address space beyond what the process has now.
        last_fd: Highest file descriptor that may ever be open.
    """
    with open("/proc/self/statm", "rb") as statm:
        num_pages = int(statm.read().split()[0])
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as score:
        score.write(b"1000")
    address_space = num_pages * mmap.PAGESIZE + memory_bytes
    for limit, value in (
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, last_fd + 1),
    ):
        resource.setrlimit(limit, (value, value))


def serve(channel: socket.socket, cpu_s: float, timeout_s: float) -> None:
    """Decode what comes; returns when the gateway closes its side.

    Args:
        channel: To the gateway.
        cpu_s: Seconds of computing a picture; the process ends by SIGPROF after that.
        timeout_s: Seconds a picture; the process ends by SIGALRM after that.
    """
    for ending in (signal.SIGPROF, signal.SIGALRM):  # Whatever the gateway's process made of them.
        signal.signal(ending, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF, signal.SIGALRM})
    while True:
        packet, files, _, _ = socket.recv_fds(channel, JOB_BYTES, 2)
        if not packet:
            return
        # What these signals do by default is to end the process, whatever it is doing.
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        signal.setitimer(signal.ITIMER_REAL, timeout_s)
        reply = answer(Job.unpack(packet), *files)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        channel.send(reply.pack())


def answer(job: Job, encoded: int, decoded: int) -> Reply:
    """Decode one picture from one file into the other, and close both."""
    try:
        with open(encoded, "rb") as file:
            data = file.read()
        num_bytes = CHANNELS * job.width * job.height
        with mmap.mmap(decoded, num_bytes) as shared, memoryview(shared) as pixels:
            return decode(data, job, pixels)
    except Refused as refused:
        return Reply(refused.outcome)
    except MemoryError:
        return Reply(Outcome.OUT_OF_MEMORY)
    except OSError as error:  # From mapping the file of the pixels.
        if error.errno != errno.ENOMEM:
            raise
        return Reply(Outcome.OUT_OF_MEMORY)
    finally:
        os.close(decoded)


def main() -> None:
    """Run with the channel's file descriptor, memory in bytes, and `serve`'s two times."""
    fd, memory_bytes = int(sys.argv[1]), int(sys.argv[2])
    if fd != CHANNEL_FD:
        os.dup2(fd, CHANNEL_FD)
        os.close(fd)
    with socket.socket(fileno=CHANNEL_FD) as channel:
        confine(memory_bytes, last_fd=CHANNEL_FD + 2)  # And the two files of a job.
        serve(channel, cpu_s=float(sys.argv[3]), timeout_s=float(sys.argv[4]))


if __name__ == "__main__":
    main()
