"""When does an answer end, and what is its text so far? One object per running answer."""

from collections.abc import Collection

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qzoom.contracts.sampling import Sampling
from qzoom.contracts.stages import FinishReason
from qzoom.model.detokenize import Detokenizer
from qzoom.model.sampling import Sampler


class Generation:
    """An answer while it is decoded.

    Args:
        slot: Its KV slot.
        sampling: How to draw tokens, and what ends the answer.
        tokenizer: The checkpoint's.
        eos_ids: Tokens that end any answer.
        max_tokens: Most tokens, where the KV slot leaves less room than `sampling` asks for.
    """

    def __init__(
        self,
        slot: int,
        sampling: Sampling,
        tokenizer: PreTrainedTokenizerBase,
        eos_ids: Collection[int],
        *,
        max_tokens: int | None = None,
    ) -> None:
        self.slot = slot
        self.sampler = Sampler(sampling)
        self.ids: list[int] = []
        self.finish: FinishReason | None = None
        self._max_tokens = min(sampling.max_tokens, max_tokens or sampling.max_tokens)
        self._eos_ids = frozenset(eos_ids)
        self._detokenizer = Detokenizer(tokenizer, sampling.stop)

    def add(self, token_id: int) -> str:
        """Take the next token, which may end the answer (see `finish`).

        The token that ends an answer counts among its `ids`, but is not part of its text.

        Returns:
            text: What became certain with it; may be empty.
        """
        assert self.finish is None, "the answer has ended"
        self.ids.append(token_id)
        if token_id in self._eos_ids:
            self.finish = "stop"
            return self._detokenizer.finish()
        text, has_stopped = self._detokenizer.add(token_id)
        if has_stopped:
            self.finish = "stop"
        elif len(self.ids) >= self._max_tokens:
            self.finish = "length"
            text += self._detokenizer.finish()
        return text
