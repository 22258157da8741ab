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

    max_prefill_tokens: int = Field(4096, ge=1)
    """Budget of one prefill in prompt tokens; a longer prompt runs alone."""

    trim: bool = True
    """Skip what no output needs; False to compare or to count."""

    count_work: bool = False
    """Count (token, layer) pairs, to prove that nothing is computed twice."""
