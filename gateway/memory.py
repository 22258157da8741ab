"""What does this gateway keep of a picture when a request ends? References, bounded in bytes.

A later question about the picture then needs no call of the encoder, and the gate need not send
the state of the picture again. What is kept stays in the object store, owned by this gateway; a
reference whose object has died is replaced by the request that finds out, which runs again.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from gateway.remote import Reference
from gateway.reply import Reply
from qzoom.contracts.keys import fingerprint
from qzoom.contracts.stages import Encoded
from qzoom.serving.prefixes import ByteLru

ENCODINGS_SHARE = 0.25
"""Part of the memory for visual tokens; the rest is for the state of image blocks."""

MAX_PICTURES = 4096
MAX_BLOCKS_PER_PICTURE = 8
"""Texts that may stand before one picture, such as system prompts; older ones are not offered."""


class PictureMemory:
    """Encodings and blocks of recent pictures of one gateway, each under its content's key.

    Args:
        max_bytes: Most of the object store that they may take; 0 keeps nothing.

    Attributes:
        model: Names the model in the gateway's own keys.
    """

    def __init__(self, max_bytes: int) -> None:
        # One gateway serves one model of one application, which is replaced as a whole.
        self.model = fingerprint("gateway")
        encodings = int(max_bytes * ENCODINGS_SHARE)
        self._encodings = ByteLru[Reply[Encoded]](encodings)
        self._blocks = ByteLru[Reference](max_bytes - encodings)
        self._behind: OrderedDict[bytes, OrderedDict[bytes, None]] = OrderedDict()

    @property
    def num_bytes(self) -> int:
        """What is kept."""
        return self._encodings.num_bytes + self._blocks.num_bytes

    def encoding(self, key: bytes) -> Reply[Encoded] | None:
        """Return a picture's or a crop's visual tokens, if they are here."""
        return self._encodings.get(key)

    def keep_encoding(self, key: bytes, reply: Reply[Encoded]) -> None:
        """Keep visual tokens."""
        kept = Reply(reply.message, list(reply.buffers))
        self._encodings.put(key, kept, reply.message.visual.num_bytes)

    def blocks(self, pictures: Iterable[bytes]) -> dict[bytes, Reference]:
        """Return the blocks that end with one of these pictures, by their keys.

        Args:
            pictures: `Encoded.key` of each.
        """
        keys = [key for picture in pictures for key in self._behind.get(picture, ())]
        found = {key: self._blocks.get(key) for key in keys}
        return {key: reference for key, reference in found.items() if reference is not None}

    def keep_blocks(self, picture: bytes, blocks: Mapping[bytes, tuple[Reference, int]]) -> None:
        """Keep blocks that end with a picture.

        Args:
            picture: Its `Encoded.key`.
            blocks: Reference and bytes of each block, by its key.
        """
        behind = self._behind.setdefault(picture, OrderedDict())
        self._behind.move_to_end(picture)
        if len(self._behind) > MAX_PICTURES:
            self._behind.popitem(last=False)
        for key, (reference, num_bytes) in blocks.items():
            self._blocks.put(key, reference, num_bytes)
            behind[key] = None
            behind.move_to_end(key)
            if len(behind) > MAX_BLOCKS_PER_PICTURE:
                behind.popitem(last=False)
