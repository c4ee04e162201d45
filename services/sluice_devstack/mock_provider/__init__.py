"""A stand-in for OpenAI and Anthropic that answers deterministically, misbehaves on request and records every call."""
