"""How does state leave a process? As one flat buffer, written once and read without a copy."""

from collections.abc import Mapping, Sequence
from itertools import pairwise, zip_longest

import numpy as np
import torch
from torch import Tensor

from qzoom.contracts.stages import Prompt
from qzoom.contracts.tensors import ALIGNMENT, Buffer, BundleHeader, TensorSpec
from qzoom.model.state import PrefillState, StatePart, VisualTokens

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float32, torch.bfloat16, torch.float16)
}


def allocate(
    shapes: Mapping[str, Sequence[int]], dtype: torch.dtype
) -> tuple[BundleHeader, Buffer, dict[str, Tensor]]:
    """Lay tensors of one element type out in a new buffer, so that they can be written in place.

    Args:
        shapes: By the tensors' names, in the order of the buffer.
        dtype: Of all of them.

    Returns:
        The header, the buffer, and views of it by name; what they hold is undefined.

    Raises:
        ValueError: If the type is not float32, bfloat16 or float16.
    """
    return _lay_out({name: (dtype, tuple(shape)) for name, shape in shapes.items()})


def pack(tensors: Mapping[str, Tensor]) -> tuple[BundleHeader, Buffer]:
    """Copy tensors, of any strides and device, into one buffer.

    Raises:
        ValueError: If a tensor is not float32, bfloat16 or float16.
    """
    header, buffer, views = _lay_out({n: (t.dtype, tuple(t.shape)) for n, t in tensors.items()})
    for name, view in views.items():
        view.copy_(tensors[name])
    return header, buffer


def unpack(header: BundleHeader, buffer: Buffer) -> dict[str, Tensor]:
    """View the tensors of a buffer, which may be read-only; nobody may write to them.

    Raises:
        ValueError: If the buffer does not have the header's length.
    """
    if buffer.dtype != np.uint8 or buffer.shape != (header.num_bytes,):
        raise ValueError(
            f"buffer is {buffer.dtype} {buffer.shape}, the header says {header.num_bytes} bytes"
        )
    flat = torch.from_numpy(np.asarray(_Shared(buffer)))
    return {spec.name: _view(flat, spec) for spec in header.tensors}


def pack_part(part: StatePart) -> tuple[BundleHeader, Buffer]:
    """Bundle a block or the suffix of a prefill state; what was born in a bundle is not copied."""
    if part.bundle is not None:
        return part.bundle
    return pack({"kv": part.kv, "hidden": part.hidden})


def unpack_part(header: BundleHeader, buffer: Buffer) -> StatePart:
    """View a block or the suffix of a prefill state."""
    part = unpack(header, buffer)
    return StatePart(part["kv"], part["hidden"])


def unpack_state(
    prompt: Prompt,
    blocks: Sequence[tuple[BundleHeader, Buffer | None]],
    suffix: tuple[BundleHeader, Buffer | None],
) -> PrefillState:
    """Put a prefill state together again.

    Args:
        prompt: The prompt.
        blocks: Header and buffer of each block; no buffer where its state is not needed.
        suffix: The same for the tokens behind the last picture.

    Raises:
        ValueError: If the bundles do not hold the state of this prompt.
    """
    parts = [
        None if buffer is None else unpack_part(header, buffer)
        for header, buffer in (*blocks, suffix)
    ]
    bounds = [0, *prompt.block_ends, len(prompt.ids)]
    lengths = [end - start for start, end in pairwise(bounds)]
    given = [
        length if part is None else len(part.hidden)
        for part, length in zip_longest(parts, lengths, fillvalue=None)
    ]
    if given != lengths:
        raise ValueError(f"state of {given} tokens does not fit {len(prompt.ids)} tokens")
    return PrefillState(prompt, tuple(parts[:-1]), parts[-1])


def pack_visual(visual: VisualTokens) -> tuple[BundleHeader, Buffer]:
    """Bundle visual tokens."""
    return pack({"features": visual.features})


def unpack_visual(grid: tuple[int, int], header: BundleHeader, buffer: Buffer) -> VisualTokens:
    """Put visual tokens together again."""
    return VisualTokens(grid, unpack(header, buffer)["features"])


class _Shared:
    """Presents a read-only buffer as writable, since torch knows no read-only tensors.

    torch would warn otherwise. numpy keeps this object, and it keeps the buffer, as long as a
    tensor needs it.
    """

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        interface = dict(buffer.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def _lay_out(
    kinds: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
) -> tuple[BundleHeader, Buffer, dict[str, Tensor]]:
    specs, offset = [], 0
    for name, (dtype, shape) in kinds.items():
        dtype_name = str(dtype).removeprefix("torch.")
        if dtype_name not in _DTYPES:
            raise ValueError(f"{name} is {dtype_name}, must be one of {', '.join(_DTYPES)}")
        offset = -(-offset // ALIGNMENT) * ALIGNMENT
        specs.append(TensorSpec(name, dtype_name, shape, offset))
        offset += int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    buffer = np.empty(offset, np.uint8)
    flat = torch.from_numpy(buffer)
    return BundleHeader(tuple(specs), offset), buffer, {s.name: _view(flat, s) for s in specs}


def _view(flat: Tensor, spec: TensorSpec) -> Tensor:
    dtype = _DTYPES[spec.dtype]
    num_bytes = int(np.prod(spec.shape, dtype=np.int64)) * dtype.itemsize
    if num_bytes == 0:
        # torch cannot reinterpret nothing; a prompt without pictures has an empty prefix.
        return torch.empty(spec.shape, dtype=dtype)
    return flat[spec.offset : spec.offset + num_bytes].view(dtype).view(spec.shape)
