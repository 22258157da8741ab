"""Token ids to text, piece by piece, for answers that are streamed while they are written."""

from collections.abc import Sequence

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

_REPLACEMENT = "\ufffd"
"""What a decoder writes for bytes that are not, or not yet, UTF-8."""


class Detokenizer:
    """Turns one answer's tokens into text and ends it at a stop text.

    All pieces together equal the decoding of all tokens at once, cut before the first stop text;
    where the tokens are no valid UTF-8, they may keep characters that the decoding at once loses.

    Args:
        tokenizer: The checkpoint's.
        stop: Texts that end the answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = ()) -> None:
        self._decoder = _IncrementalDecoder(tokenizer)
        self._scanner = StopScanner(stop)

    def add(self, token_id: int) -> tuple[str, bool]:
        """Take one token.

        Returns:
            text: What became certain with it; may be empty.
            has_stopped: Whether a stop text was completed; nothing may follow.
        """
        return self._scanner.add(self._decoder.add(token_id))

    def finish(self) -> str:
        """Return what was held back, at the end of the answer."""
        text, has_stopped = self._scanner.add(self._decoder.finish())
        return text if has_stopped else text + self._scanner.finish()


class StopScanner:
    """Finds stop texts across pieces and never lets a part of one out.

    Args:
        stop: Texts that end the answer.

    Raises:
        ValueError: If one is empty.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        if not all(stop):
            raise ValueError("a stop text must not be empty")
        self._stop = tuple(stop)
        self._held = ""
        self._has_stopped = False

    def add(self, text: str) -> tuple[str, bool]:
        """Take a piece; return the text that is certain, and whether a stop text was found."""
        if self._has_stopped:
            return "", True
        self._held += text
        found = [at for at in map(self._held.find, self._stop) if at >= 0]
        if found:
            self._has_stopped = True
            certain, self._held = self._held[: min(found)], ""
            return certain, True
        keep = max((self._overlap(stop) for stop in self._stop), default=0)
        end = len(self._held) - keep
        certain, self._held = self._held[:end], self._held[end:]
        return certain, False

    def finish(self) -> str:
        """Return what was held back because a stop text might have followed."""
        held, self._held = self._held, ""
        return held

    def _overlap(self, stop: str) -> int:
        """Length of the longest beginning of `stop` that the held text ends with."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)


class _IncrementalDecoder:
    """Decodes each token together with those before it.

    What a token looks like depends on its left neighbours (leading spaces, characters of several
    bytes), so a window that starts with the last finished piece is decoded with and without the
    new token, and the difference is the new text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._num_done = 0

    def add(self, token_id: int) -> str:
        self._window.append(token_id)
        text = self._pending()
        if not text or text.endswith(_REPLACEMENT):
            return ""
        self._window = self._window[self._num_done :]
        self._num_done = len(self._window)
        return text

    def finish(self) -> str:
        text = self._pending()
        self._window, self._num_done = [], 0
        return text

    def _pending(self) -> str:
        done, whole = self._decode(self._window[: self._num_done]), self._decode(self._window)
        if whole.startswith(done):
            return whole[len(done) :]
        # SentencePiece gives up a whole run of byte tokens for one bad byte, also those that
        # were fine on their own and are out already.
        return self._decode(self._window[self._num_done :])

    def _decode(self, ids: list[int]) -> str:
        text = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        assert isinstance(text, str)
        return text
