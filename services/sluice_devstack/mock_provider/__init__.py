"""A stand-in for OpenAI, Anthropic and the other providers that answers deterministically, misbehaves on request and records every call."""
