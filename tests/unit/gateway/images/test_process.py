"""A decoding process that dies or hangs costs its own picture at most, and has little to lose."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from gateway.images.limits import MIB
from gateway.images.process import PICTURES_PER_PROCESS
from qzoom.errors import DeadlineExceeded, Unavailable, UnsupportedMedia

END_TIMEOUT_S = 30.0
BUFFER = BytesIO()
Image.new("RGB", (3, 2), (1, 2, 3)).save(BUFFER, "PNG")
PNG = BUFFER.getvalue()


def stop(pid: int) -> None:
    """Freeze a process, so that it hangs with the next picture."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + END_TIMEOUT_S
    while "T (stopped)" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.001)


async def until_busy(decoder, pid: int, request) -> asyncio.Task:
    """Begin a request whose picture lies at a frozen process."""
    task = asyncio.create_task(decoder.decode(request))
    while decoder._idle.qsize() == len(decoder.pids):
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)  # From taking the process to sending the picture.
    assert not task.done()
    assert pid in decoder.pids
    return task


async def until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + END_TIMEOUT_S
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "processes outlived their owner"
        await asyncio.sleep(0.01)


async def test_a_killed_process_costs_not_even_its_request(make_decoder, request_of):
    decoder = make_decoder(num_processes=2)
    await asyncio.gather(*(decoder.decode(request_of(PNG)) for _ in range(4)))
    pid = decoder._idle.get_nowait().pid  # Look who is next.
    process = next(process for process in decoder._processes if process.pid == pid)
    other = next(process for process in decoder._processes if process.pid != pid)
    decoder._idle.get_nowait()
    for each in (process, other):
        decoder._idle.put(each)
    stop(pid)
    task = await until_busy(decoder, pid, request_of(PNG))
    neighbours = [await decoder.decode(request_of(PNG)) for _ in range(5)]
    os.kill(pid, signal.SIGKILL)
    (image,) = await task
    assert image.pixels[0, 0].tolist() == [1, 2, 3]
    assert all(image.pixels[0, 0].tolist() == [1, 2, 3] for (image,) in neighbours)
    assert len(decoder.pids) == 2
    assert pid not in decoder.pids


async def test_processes_killed_while_idle_are_replaced(make_decoder, request_of):
    decoder = make_decoder(num_processes=2)
    before = decoder.pids
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    results = await asyncio.gather(
        *(decoder.decode(request_of(PNG)) for _ in range(6)), return_exceptions=True
    )
    # A picture gives up when both processes that it met were dead; never more than that one.
    assert sum(isinstance(result, Unavailable) for result in results) <= 1
    for _ in range(4):
        await decoder.decode(request_of(PNG))
    assert len(decoder.pids) == 2
    assert not set(before) & set(decoder.pids)


@pytest.mark.parametrize("crash", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
async def test_a_crash_is_the_pictures_fault(make_decoder, request_of, crash):
    decoder = make_decoder(num_processes=1)
    (pid,) = decoder.pids
    await decoder.decode(request_of(PNG))
    stop(pid)
    task = await until_busy(decoder, pid, request_of(PNG))
    os.kill(pid, crash)
    os.kill(pid, signal.SIGCONT)
    with pytest.raises(UnsupportedMedia, match=r"^image 0 is broken or truncated"):
        await task
    assert decoder.pids != [pid]
    assert await decoder.decode(request_of(PNG))


async def test_a_process_that_hangs_is_killed_in_time(make_decoder, request_of):
    decoder = make_decoder(num_processes=2)
    await asyncio.gather(*(decoder.decode(request_of(PNG)) for _ in range(4)))
    pids = decoder.pids
    decoder._processes[0]._channel.settimeout(0.5)  # Its time, cut short for the test.
    stop(pids[0])
    results = await asyncio.gather(
        *(decoder.decode(request_of(PNG)) for _ in range(6)), return_exceptions=True
    )
    failures = [result for result in results if isinstance(result, BaseException)]
    assert [type(failure) for failure in failures] == [DeadlineExceeded]
    assert str(failures[0]) == "image 0 was not decoded within 20 s"
    await until_gone(pids[:1])
    assert len(decoder.pids) == 2
    assert pids[1] in decoder.pids


async def test_a_process_retires_after_many_pictures(make_decoder, request_of):
    decoder = make_decoder(num_processes=1)
    (pid,) = decoder.pids
    decoder._processes[0]._num_decoded = PICTURES_PER_PROCESS - 2
    await decoder.decode(request_of(PNG))
    assert decoder.pids == [pid]
    await decoder.decode(request_of(PNG))
    assert decoder.pids != [pid]
    assert await decoder.decode(request_of(PNG))


async def test_closing_ends_processes_whatever_they_do(make_decoder, request_of):
    decoder = make_decoder(num_processes=2)
    pids = decoder.pids
    stop(pids[0])
    stop(pids[1])
    task = await until_busy(decoder, pids[0], request_of(PNG))
    decoder.close()
    with pytest.raises(Unavailable):
        await task
    await until_gone(pids)
    with pytest.raises(Unavailable, match="stopping"):
        await decoder.decode(request_of(PNG))


async def test_processes_do_not_outlive_a_gateway_that_is_killed():
    program = (
        "import time; from gateway.images.decoder import ImageDecoder; d = ImageDecoder();"
        "print(*d.pids, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as gateway:
        assert gateway.stdout is not None
        pids = [int(pid) for pid in gateway.stdout.readline().split()]
        assert len(pids) == 2
        gateway.kill()
    await until_gone(pids)


async def test_a_process_has_nothing_to_lose(make_decoder, request_of, monkeypatch):
    monkeypatch.setenv("QZOOM_TEST_SECRET", "a secret of the gateway")
    decoder = make_decoder(num_processes=1)
    await decoder.decode(request_of(PNG))
    process = Path(f"/proc/{decoder.pids[0]}")
    environment = (process / "environ").read_bytes()
    assert b"SECRET" not in environment
    assert b"PYTHONPATH" in environment
    assert (process / "cwd").readlink() == Path("/")
    files = [os.readlink(entry) for entry in (process / "fd").iterdir()]
    assert sorted(name.partition(":")[0] for name in files) == ["/dev/null"] * 3 + ["socket"]
    limits = {
        line[:26].strip(): line[26:47].strip()
        for line in (process / "limits").read_text().splitlines()
    }
    for name in ("Max core file size", "Max file size", "Max processes"):
        assert limits[name] == "0", name
    assert limits["Max open files"] == "6"
    assert 1536 * MIB < int(limits["Max address space"]) < 2048 * MIB
    assert (process / "oom_score_adj").read_text().strip() == "1000"
    libraries = (process / "maps").read_text()
    assert not any(name in libraries for name in ("numpy", "torch", "ray/"))
