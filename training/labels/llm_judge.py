"""Ask a language model which of two answers is right, over any OpenAI-compatible endpoint."""

import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from qzoom.errors import Unavailable
from training.labels import judge_prompt

_VERDICT = re.compile(
    r"\A\s*A:\s*\[?(yes|no)\]?\.?\s*\n\s*B:\s*\[?(yes|no)\]?\.?\s*\Z", re.IGNORECASE
)
_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}
_MAX_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one question.

    Attributes:
        question: Its text.
        truth: The right answer.
        base: Of the base model.
        roi: Of the model with an RoI.
    """

    question: str
    truth: str
    base: str
    roi: str


def parse_verdict(text: str) -> tuple[bool, bool] | None:
    """Read `A: Yes` and `B: No` on two lines; anything else is no verdict."""
    found = _VERDICT.fullmatch(text)
    if found is None:
        return None
    a, b = (word.lower() == "yes" for word in found.groups())
    return a, b


class LlmJudge:
    """A judge behind an HTTP endpoint.

    Args:
        url: Base URL that ends before `/chat/completions`, such as http://host:8000/v1.
        model: Name of the model there.
        api_key_variable: Environment variable that holds the key; unset means none is sent.
        attempts: How often a question is asked before it counts as not judged.
        timeout_s: Longest wait for one reply.
        at_once: Questions that are asked in parallel.
        pause_s: First pause between attempts; it doubles.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key_variable: str = "OPENAI_API_KEY",
        attempts: int = 4,
        timeout_s: float = 60.0,
        at_once: int = 8,
        pause_s: float = 0.5,
    ) -> None:
        self._url = url.rstrip("/") + "/chat/completions"
        self._model, self._attempts, self._at_once = model, attempts, at_once
        self._pause_s = pause_s
        key = os.environ.get(api_key_variable)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(timeout=timeout_s, headers=headers)

    def judge(self, pairs: Sequence[Pair]) -> list[tuple[bool, bool] | None]:
        """Judge many pairs.

        Returns:
            verdicts: (base is right, RoI is right), None where no attempt gave a strict verdict.

        Raises:
            Unavailable: If the endpoint refuses or cannot be reached after all attempts.
        """
        with ThreadPoolExecutor(self._at_once) as pool:
            return list(pool.map(self._judge, pairs))

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def _judge(self, pair: Pair) -> tuple[bool, bool] | None:
        prompt = judge_prompt.USER.format(
            question=pair.question,
            ground_truth=pair.truth,
            base_response=pair.base,
            roi_response=pair.roi,
        )
        failure: str | None = None
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(self._pause_s * 2 ** (attempt - 1))
            body = {
                "model": self._model,
                "messages": [
                    {"role": "system", "content": judge_prompt.SYSTEM},
                    {"role": "user", "content": prompt},
                ],
                # A second try must be able to say something else.
                "temperature": 0.0 if attempt == 0 else 0.7,
                "max_tokens": _MAX_TOKENS,
            }
            try:
                reply = self._client.post(self._url, json=body)
            except httpx.HTTPError as error:
                failure = f"{type(error).__name__}: {error}"
                continue
            if reply.status_code in _RETRIED:
                failure = f"HTTP {reply.status_code}"
                continue
            if reply.status_code != httpx.codes.OK:
                raise Unavailable(f"the judge refuses: HTTP {reply.status_code} {reply.text[:200]}")
            failure = None
            verdict = parse_verdict(_content(reply))
            if verdict is not None:
                return verdict
        if failure is not None:
            raise Unavailable(f"the judge cannot be reached at {self._url}: {failure}")
        return None


def _content(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["choices"][0]["message"]["content"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
