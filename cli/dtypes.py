"""Which element types can a command compute in?"""

from enum import StrEnum


class DTypeName(StrEnum):
    """Element types of weights and states."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
