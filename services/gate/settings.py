"""Settings of the gate service; every field is also a variable QZOOM_GATE_*."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from qzoom.settings import StageSettings


class GateSettings(StageSettings):
    """What the operator may choose for the gate."""

    model_config = SettingsConfigDict(env_prefix="QZOOM_GATE_")

    max_batch_tokens: int = Field(8192, ge=1)
    """Budget of one batch in prompt tokens; a longer prompt runs alone."""

    max_prompt_tokens: int = Field(16384, ge=1)
    """Longest prompt that is accepted, visual tokens included."""

    trim: bool = True
    """Skip what no output needs; False to compare or to count."""

    count_work: bool = False
    """Count (token, layer) pairs, to prove that nothing is computed twice."""
