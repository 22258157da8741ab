"""Remote pictures of a request come together, within one time, and not too many at once."""

import asyncio
import time
from dataclasses import replace

import pytest

from gateway.fetch.fetcher import FetchLimits, ImageFetcher
from gateway.fetch.policy import FetchPolicy
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.request import AnswerRequest, Limits, RemoteImage
from qzoom.contracts.sampling import Sampling
from qzoom.errors import DeadlineExceeded, InvalidRequest, Overloaded, TooLarge

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n"
URL = "https://pictures.example/a.png"


def request_of(*images, deadline_s=60.0) -> AnswerRequest:
    return AnswerRequest(
        request_id="r",
        model="m",
        conversation=single_question("?"),
        images=tuple(RemoteImage(i) if isinstance(i, str) else i for i in images),
        image_params=tuple(f"image {i}" for i in range(len(images))),
        sampling=Sampling(),
        options=Options(),
        stream=False,
        deadline=time.time() + deadline_s,
        trace={},
    )


@pytest.fixture
def make_fetcher(net):
    fetchers = []

    def make(policy="public", limits=None, request_limits=None) -> ImageFetcher:
        fetcher = ImageFetcher(
            FetchPolicy.parse(policy, allow_http=True),
            limits,
            request_limits,
            resolve=net.resolve,
            make_transport=lambda _: net.transport(net.trust()),
        )
        fetchers.append(fetcher)
        return fetcher

    yield make
    for fetcher in fetchers:
        fetcher.close()


def picture(body: bytes) -> bytes:
    return HEAD + b"content-length: %d\r\n\r\n" % len(body) + body


async def test_files_take_the_places_of_their_urls(net, make_fetcher):
    await net.serve(picture(b"one"))
    await net.serve(picture(b"two"), host="other.example", address="1.1.1.1")
    request = request_of(URL, b"mine", "https://other.example/", b"too")
    fetched = await make_fetcher().fetch(request)
    assert fetched.files == (b"one", b"mine", b"two", b"too")
    assert fetched == replace(request, images=fetched.files)


async def test_a_request_without_remote_pictures_is_left_alone(make_fetcher):
    request = request_of(b"mine")
    assert await make_fetcher("off").fetch(request) is request


async def test_remote_pictures_are_off_by_default(net):
    fetcher = ImageFetcher(resolve=net.resolve, make_transport=net.transport)
    with pytest.raises(InvalidRequest, match="remote images are not enabled") as error:
        await fetcher.fetch(request_of(b"mine", URL))
    assert error.value.param == "image 1.url"
    assert net.asked == []
    fetcher.close()


async def test_the_first_failure_ends_the_others(net, make_fetcher):
    gone = asyncio.Event()

    async def never(reader, _writer):
        await reader.read()  # Until the gateway hangs up.
        gone.set()

    answered = net.resolve

    async def resolve(host):
        while host == "unknown.example" and not net.requests:
            await asyncio.sleep(0.01)
        return await answered(host)

    net.resolve = resolve
    await net.serve(never)
    with pytest.raises(InvalidRequest) as error:
        await make_fetcher().fetch(request_of(URL, "https://unknown.example/"))
    assert error.value.param == "image 1.url"
    async with asyncio.timeout(10):
        await gone.wait()


async def drip(writer, data: bytes) -> None:
    while True:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0.02)


async def silence(reader, _writer):
    await reader.read()


async def endless_head(_reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    await drip(writer, b"x: y\r\n")


async def endless_promises(_reader, writer):
    await drip(writer, b"HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n")


async def slow_body(_reader, writer):
    writer.write(HEAD + b"content-length: 1000000\r\n\r\n")
    await drip(writer, b"x")


async def slow_chunks(_reader, writer):
    writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n")
    await drip(writer, b"1\r\nx\r\n")


async def slow_redirect(_reader, writer):
    await asyncio.sleep(0.2)
    writer.write(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: /again\r\n\r\n")


@pytest.mark.parametrize(
    "script", [silence, endless_head, endless_promises, slow_body, slow_chunks, slow_redirect]
)
async def test_slow_servers_have_the_time_of_a_request_and_no_more(net, make_fetcher, script):
    await net.serve(script)
    fetcher = make_fetcher(limits=FetchLimits(timeout_s=0.5))
    with pytest.raises(InvalidRequest, match=r"within 0\.5 s") as error:
        await fetcher.fetch(request_of(URL))
    assert error.value.http_status == 400
    with pytest.raises(DeadlineExceeded):
        await make_fetcher().fetch(request_of(URL, deadline_s=0.3))


async def test_slow_names_have_the_same_time(net, make_fetcher):
    async def resolve(_host):
        await asyncio.sleep(3600)

    net.resolve = resolve
    with pytest.raises(InvalidRequest, match=r"within 0\.2 s"):
        await make_fetcher(limits=FetchLimits(timeout_s=0.2)).fetch(request_of(URL))


async def test_all_pictures_together_may_have_what_a_body_may(net, make_fetcher):
    await net.serve(picture(bytes(400)))
    limits = Limits(max_image_bytes=500, max_body_bytes=1000)
    fetcher = make_fetcher(request_limits=limits)
    assert await fetcher.fetch(request_of(URL, URL, bytes(200)))
    with pytest.raises(TooLarge, match="more than 799 bytes together"):
        await fetcher.fetch(request_of(URL, URL, bytes(201)))
    with pytest.raises(TooLarge, match="gives 400 bytes, at most 300"):
        await make_fetcher(request_limits=Limits(max_image_bytes=300)).fetch(request_of(URL))


async def test_no_more_than_the_limit_are_fetched_at_once(net, make_fetcher):
    go = asyncio.Event()

    async def later(_reader, writer):
        await go.wait()
        writer.write(picture(b"x"))
        await writer.drain()

    await net.serve(later)
    fetcher = make_fetcher(limits=FetchLimits(max_running=3))
    running = asyncio.create_task(fetcher.fetch(request_of(URL, URL)))
    while len(net.requests) < 2:
        await asyncio.sleep(0.01)
    with pytest.raises(Overloaded, match="2 pictures are being fetched, at most 3") as error:
        await fetcher.fetch(request_of(URL, URL))
    assert error.value.retry_after_s == 1
    go.set()
    assert (await running).files == (b"x", b"x")
    assert (await fetcher.fetch(request_of(URL, URL, URL))).files == (b"x",) * 3


async def test_a_request_that_is_cancelled_hangs_up(net, make_fetcher):
    gone = asyncio.Event()

    async def never(reader, _writer):
        await reader.read()
        gone.set()

    await net.serve(never)
    fetcher = make_fetcher(limits=FetchLimits(max_running=1))
    for _ in range(3):
        task = asyncio.create_task(fetcher.fetch(request_of(URL)))
        before = len(net.requests)
        while len(net.requests) == before:
            await asyncio.sleep(0.01)
        gone.clear()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10):
            await gone.wait()
