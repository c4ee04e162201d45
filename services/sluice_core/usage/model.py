"""What a provider call used, in tokens, whoever reported it and in whatever form."""

from typing import Literal

from sluice_platform.values import frozen_value

UsageSource = Literal["reported", "estimated"]


@frozen_value
class Usage:
    """What one call used, in tokens as OpenTelemetry GenAI counts them.

    `input_tokens` includes cache reads, cache writes and audio; `cache_write_tokens` includes those kept for
    an hour; `output_tokens` includes reasoning and audio. The others are subsets and are never added. `searches` are
    the units that rankings are sold in.
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    searches: int = 0


NOTHING = Usage()
