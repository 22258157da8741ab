"""The bench of overload, against a small server that takes two requests at a time."""

import asyncio
import threading

import pytest

from benchmarks.overload import OverloadLoad, run
from benchmarks.raw_client import prepare, send

WORK_S = 0.02


class Server:
    """Works on two requests at a time and refuses the others."""

    def __init__(self):
        self.in_work = 0
        self.url = ""

    async def handle(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        if self.in_work >= 2:
            writer.write(b"HTTP/1.1 429 No\r\nretry-after: 1\r\n\r\n")
        else:
            self.in_work += 1
            await asyncio.sleep(WORK_S)
            self.in_work -= 1
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n{}")
        writer.close()


@pytest.fixture
def server():
    made, started, stop = Server(), threading.Event(), asyncio.Event()
    loops = []

    async def main():
        listening = await asyncio.start_server(made.handle, "127.0.0.1", 0)
        made.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        loops.append(asyncio.get_running_loop())
        started.set()
        async with listening:
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert started.wait(10)
    yield made
    loops[0].call_soon_threadsafe(stop.set)
    thread.join(10)


def test_goodput_and_refusals_are_told_apart(server):
    load = OverloadLoad(server.url, clients=(1, 2), times=4.0, seconds=0.5, rounds=1)
    report = run(load, [{"model": "m"}], lambda _: None)
    overload = report.figures["runs"]["overload 1"]["statuses"]
    assert set(overload) == {"200", "429"}
    assert report.figures["lost"] == 0
    assert report.figures["refusals_without_retry_after"] == 0
    assert report.figures["goodput_ratio"] > 0
    assert {target.what for target in report.targets if target.is_met} >= {
        "requests without any answer"
    }


async def test_a_server_that_is_not_there_loses_the_request():
    url = "http://127.0.0.1:9"
    (request,) = prepare(url, [{"model": "m"}])
    assert (await send(url, request, 1.0)).status == 0
