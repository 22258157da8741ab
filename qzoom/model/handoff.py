"""How does state leave a process? As one flat buffer, written once and read without a copy."""

from collections.abc import Mapping

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


def pack(tensors: Mapping[str, Tensor]) -> tuple[BundleHeader, Buffer]:
    """Copy tensors, of any strides and device, into one buffer.

    Raises:
        ValueError: If a tensor is not float32, bfloat16 or float16.
    """
    specs, offset = [], 0
    for name, tensor in tensors.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in _DTYPES:
            raise ValueError(f"{name} is {dtype}, must be one of {', '.join(_DTYPES)}")
        offset = -(-offset // ALIGNMENT) * ALIGNMENT
        specs.append(TensorSpec(name, dtype, tuple(tensor.shape), offset))
        offset += tensor.numel() * tensor.element_size()
    header = BundleHeader(tuple(specs), offset)
    buffer = np.empty(offset, np.uint8)
    flat = torch.from_numpy(buffer)
    for spec in specs:
        _view(flat, spec).copy_(tensors[spec.name])
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
    """Bundle the prefix or the suffix of a prefill state."""
    return pack({"kv": part.kv, "hidden": part.hidden})


def unpack_state(
    prompt: Prompt, prefix: tuple[BundleHeader, Buffer], suffix: tuple[BundleHeader, Buffer]
) -> PrefillState:
    """Put a prefill state together again.

    Raises:
        ValueError: If the bundles do not hold the state of this prompt.
    """
    parts = [unpack(*bundle) for bundle in (prefix, suffix)]
    state = PrefillState(prompt, *(StatePart(p["kv"], p["hidden"]) for p in parts))
    lengths = len(state.prefix.hidden), len(state.suffix.hidden)
    if lengths != (prompt.prefix_len, len(prompt.ids) - prompt.prefix_len):
        raise ValueError(f"state of {lengths} tokens does not fit {len(prompt.ids)} tokens")
    return state


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


def _view(flat: Tensor, spec: TensorSpec) -> Tensor:
    dtype = _DTYPES[spec.dtype]
    num_bytes = int(np.prod(spec.shape, dtype=np.int64)) * dtype.itemsize
    if num_bytes == 0:
        # torch cannot reinterpret nothing; a prompt without pictures has an empty prefix.
        return torch.empty(spec.shape, dtype=dtype)
    return flat[spec.offset : spec.offset + num_bytes].view(dtype).view(spec.shape)
