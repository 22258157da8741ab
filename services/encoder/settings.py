"""Settings of the encoder service; every field is also a variable QZOOM_ENCODER_*."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from qzoom.settings import StageSettings


class EncoderSettings(StageSettings):
    """What the operator may choose for the encoder."""

    model_config = SettingsConfigDict(env_prefix="QZOOM_ENCODER_")

    max_batch_tokens: int = Field(4096, ge=1)
    """Budget of one batch in visual tokens; a larger picture runs alone."""

    prepare_threads: int = Field(2, ge=1, le=64)
    """Pictures that are resized at the same time, beside the computation."""
