"""Settings of the llm service; every field is also a variable QZOOM_LLM_*."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from qzoom.settings import StageSettings


class LlmSettings(StageSettings):
    """What the operator may choose for the llm."""

    model_config = SettingsConfigDict(env_prefix="QZOOM_LLM_")

    max_slots: int = Field(16, ge=1, le=1024)
    """Most requests that decode at once; memory for their KV cache is reserved at start."""

    max_len: int = Field(4096, ge=16)
    """Most positions of one request, prompt and answer together."""

    max_kv_bytes: int | None = Field(None, ge=1)
    """Most memory of all slots: fewer than `max_slots` where it does not suffice for them."""

    max_prefill_tokens: int = Field(4096, ge=1)
    """Most prompt tokens that are computed at once while nobody decodes."""

    chunk_tokens: int = Field(512, ge=1)
    """Most prompt tokens that are computed between two steps of decoding."""

    trim: bool = True
    """Skip what no output needs; False to compare or to count."""

    count_work: bool = False
    """Count (token, layer) pairs, to prove that nothing is computed twice."""
