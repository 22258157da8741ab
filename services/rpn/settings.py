"""Settings of the RPN service; every field is also a variable QZOOM_RPN_*."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from qzoom.settings import StageSettings


class RpnSettings(StageSettings):
    """What the operator may choose for the RPN."""

    model_config = SettingsConfigDict(env_prefix="QZOOM_RPN_")

    max_batch_tokens: int = Field(8192, ge=1)
    """Budget of one batch in prompt tokens; a longer prompt runs alone."""

    count_work: bool = False
    """Count (token, layer) pairs, to prove that nothing is computed twice."""
