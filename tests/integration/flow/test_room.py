"""A prompt that an answer fits behind, but no crop."""

from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options

MAX_PROMPT_TOKENS = 1023
ZOOM = Options(route="zoom", tau_roi=0.05)


async def test_a_prompt_that_leaves_no_room_for_the_crop_is_answered_coarsely(flow, picture):
    pixels = picture(300, 200)

    one = flow()

    async def asked(words, options):
        return await one.ask(single_question("word " * words), pixels, options)

    _, short, finished = await asked(10, ZOOM)
    assert (short.route, finished.degraded) == ("zoom", None)
    ten, twenty = [
        (await asked(words, Options(route="direct")))[2].prompt_tokens for words in (10, 20)
    ]
    words = 10 + int((MAX_PROMPT_TOKENS - ten) * 10 / (twenty - ten))
    expected, *_ = await asked(words, Options(route="direct"))
    ids, long, finished = await asked(words, ZOOM)
    assert finished.degraded == "llm.resume: too_large"
    assert (long.route, ids) == ("direct", expected)
