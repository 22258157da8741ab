"""Open a pickle that holds plain data, without running anything that it asks for.

A pickle is a program. This one may build numbers, texts, bytes, lists, tuples, dictionaries, sets
and numeric numpy arrays; every other name that it mentions ends the reading. Nothing of numpy is
handed to the program either: arrays and dtypes are stand-ins that only note what was asked for,
and become arrays afterwards, checked.
"""

import math
import mmap
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qzoom.data.readers.problems import BadRecord

MAX_DEPTH = 32
"""Containers in containers."""

_PLAIN = (int, float, complex, bool, str, bytes, bytearray, type(None))
_KINDS = "biufcSU"
"""Kinds of numpy dtypes that are plain memory: numbers and fixed-length texts."""
_ORDERS: dict[object, Literal["<", ">", "=", "|"]] = {"<": "<", ">": ">", "=": "=", "|": "|"}
_MAX_CODE_CHARS = 8
"""Longest dtype name of such a kind that makes sense, such as "U4096"."""


class _Stand:
    """Something that the program may hold and call, but that does nothing by itself."""

    __slots__ = ()


class _DtypeStand(_Stand):
    __slots__ = ("code", "order")

    def __init__(self, code: object) -> None:
        self.code = code
        self.order: object = "="

    def __setstate__(self, state: tuple[object, ...]) -> None:
        # (version, byte order, subarray, names, fields, size, alignment, flags)
        self.order = state[1]
        if any(part is not None for part in state[2:5]):
            raise BadRecord("the pickle holds a structured array")

    def build(self) -> np.dtype[Any]:
        code, order = self.code, self.order
        if not isinstance(code, str) or not 1 <= len(code) <= _MAX_CODE_CHARS:
            raise BadRecord("the pickle holds an array of an odd type", repr(code)[:40])
        if code.lstrip("<>=|")[:1] not in _KINDS or order not in _ORDERS:
            raise BadRecord("the pickle holds an array that is not numeric", repr(code))
        try:
            dtype = np.dtype(code)
        except TypeError:
            raise BadRecord("the pickle holds an array of an odd type", repr(code)) from None
        return dtype.newbyteorder(_ORDERS[order])


class _ArrayStand(_Stand):
    __slots__ = ("data", "dtype", "is_fortran", "shape")

    def __init__(self, shape: object, dtype: object, is_fortran: object, data: object) -> None:
        self.shape, self.dtype, self.is_fortran, self.data = shape, dtype, is_fortran, data

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _, self.shape, self.dtype, self.is_fortran, self.data = state

    def build(self) -> np.ndarray[Any, np.dtype[Any]]:
        shape, data = self.shape, self.data
        if not isinstance(self.dtype, _DtypeStand) or not isinstance(data, (bytes, bytearray, str)):
            raise BadRecord("the pickle holds an array that is not numeric")
        if isinstance(data, str):  # protocols 0 to 2 of Python 2 wrote memory as Latin-1 text
            data = data.encode("latin-1")
        dtype = self.dtype.build()
        if not isinstance(shape, tuple):
            raise BadRecord("the pickle holds an array without a shape")
        sides = [n for n in shape if isinstance(n, int)]
        has_memory = len(data) == math.prod(sides) * dtype.itemsize and dtype.itemsize > 0
        if min(sides, default=0) < 0 or len(sides) != len(shape) or not has_memory:
            raise BadRecord("the pickle holds an array whose memory does not fit its shape")
        is_fortran = self.is_fortran is True or self.is_fortran == "F"
        array = np.frombuffer(data, dtype).reshape(sides, order="F" if is_fortran else "C")
        return array.copy()


class _ScalarStand(_Stand):
    __slots__ = ("array",)

    def __init__(self, dtype: object, data: object) -> None:
        self.array = _ArrayStand((), dtype, False, data)

    def build(self) -> object:
        return self.array.build().item()


class _Call(_Stand):
    """A name that the program may call; a stand itself, so that nothing can be set on it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., object]) -> None:
        self._make = make

    def __call__(self, *args: object) -> object:
        return self._make(*args)


def _reconstruct(*_: object) -> _ArrayStand:
    return _ArrayStand((0,), None, False, b"")


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> _ArrayStand:
    return _ArrayStand(shape, dtype, order, data)


def _dtype(code: object, *_: object) -> _DtypeStand:
    return _DtypeStand(code)


def _encode(text: object, codec: object) -> bytes:
    if not isinstance(text, str) or codec not in {"latin1", "latin-1"}:
        raise BadRecord("the pickle asks for a codec that plain data does not need", repr(codec))
    return text.encode("latin-1")


def _of_items(make: type) -> Callable[..., object]:
    def build(items: object = ()) -> object:
        if not isinstance(items, (list, tuple)):  # a number would ask for that much memory
            raise BadRecord(f"the pickle builds a {make.__name__} from something else than items")
        return make(items)

    return build


def _no_bytes() -> bytes:  # how the older protocols write b""
    return b""


def _bytearray(data: object = b"", codec: object = "latin-1") -> bytearray:
    return bytearray(data if isinstance(data, bytes) else _encode(data, codec))


def _complex(real: object, imaginary: object) -> complex:
    if not isinstance(real, float) or not isinstance(imaginary, float):
        raise BadRecord("the pickle builds a complex number from something else than numbers")
    return complex(real, imaginary)


_NUMPY: dict[str, Callable[[], object]] = {
    "ndarray": _Stand,
    "dtype": lambda: _Call(_dtype),
    "_reconstruct": lambda: _Call(_reconstruct),
    "_frombuffer": lambda: _Call(_from_buffer),
    "scalar": lambda: _Call(_ScalarStand),
}
_BUILTINS: dict[str, Callable[[], object]] = {
    "set": lambda: _Call(_of_items(set)),
    "frozenset": lambda: _Call(_of_items(frozenset)),
    "bytes": lambda: _Call(_no_bytes),
    "bytearray": lambda: _Call(_bytearray),
    "complex": lambda: _Call(_complex),
}
_ALLOWED: dict[str, dict[str, Callable[[], object]]] = {
    "numpy": _NUMPY,
    "numpy.core.multiarray": _NUMPY,
    "numpy._core.multiarray": _NUMPY,
    "numpy.core.numeric": _NUMPY,
    "numpy._core.numeric": _NUMPY,
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS,
    "_codecs": {"encode": lambda: _Call(_encode)},
}


# Python's own implementation of the machine, not the one in C: there a program of a dozen bytes
# can make the memo table ask for gigabytes.
class _PlainUnpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str, /) -> object:
        allowed = _ALLOWED.get(module, {}).get(name)
        if allowed is None:
            raise BadRecord("the pickle asks for code", f"{module}.{name}"[:120])
        return allowed()


def load_plain(path: Path) -> object:
    """Read a pickle of builtins and numeric numpy arrays.

    Args:
        path: The file.

    Returns:
        What it holds, arrays as `numpy.ndarray`, numpy scalars as Python numbers.

    Raises:
        BadRecord: If the file asks for anything else, or is broken.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise BadRecord("the pickle is empty")
        # Mapped: a length that the file does not have gives a short read, not an allocation.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            try:
                loaded = _PlainUnpickler(memory).load()
            except BadRecord:
                raise
            # A hostile program can fail in any way that Python's containers can.
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"[:120]
                raise BadRecord("the pickle is broken", reason) from None
    return _plain(loaded, {}, MAX_DEPTH)


def _plain(value: object, seen: dict[int, object], depth: int) -> object:
    """Replace the stands; each object once, so that shared parts stay cheap."""
    if type(value) in _PLAIN:
        return value
    if id(value) in seen:
        return seen[id(value)]
    if depth == 0:
        raise BadRecord(f"the pickle nests deeper than {MAX_DEPTH}, or in itself")
    inner: object
    match value:
        case _ArrayStand() | _ScalarStand():
            inner = value.build()
        case dict():
            inner = {_key(k, seen): _plain(v, seen, depth - 1) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            inner = type(value)(_plain(v, seen, depth - 1) for v in value)
        case _:
            raise BadRecord("the pickle holds something else than plain data")
    seen[id(value)] = inner
    return inner


def _key(key: object, seen: dict[int, object]) -> object:
    plain = _plain(key, seen, 2)
    if not isinstance(plain, (str, int, float, bytes, tuple, type(None))):
        raise BadRecord("the pickle holds a dictionary with odd keys")
    return plain
