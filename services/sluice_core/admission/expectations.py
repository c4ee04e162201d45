"""How many tokens a job will use, as far as the recent ones tell."""

from typing import Final

FIRST_OUTPUT: Final = 256
"""Tokens that an answer is expected to have before any was seen."""
WEIGHT: Final = 0.1
"""Of the newest answer in the running mean."""
BYTES_A_TOKEN: Final = 4
REMEMBERED: Final = 10_000


class Expectations:
    """A running mean of the output tokens of each tenant's answers from each model, and of all from a model."""

    def __init__(self) -> None:
        self._means: dict[tuple[str | None, str], float] = {}

    def tokens(self, tenant: str, model: str, *, body_bytes: int, most_output: int) -> int:
        """Input and output tokens that a request of this size will likely use."""
        output = self.output_tokens(tenant, model, most_output=most_output)
        return body_bytes // BYTES_A_TOKEN + 1 + output

    def output_tokens(self, tenant: str, model: str, *, most_output: int) -> int:
        """Tokens that an answer will likely have."""
        mean = self._means.get((tenant, model))
        if mean is None:
            mean = self._means.get((None, model), FIRST_OUTPUT)
        return min(most_output, round(mean))

    def knows(self, model: str) -> bool:
        """Whether an answer of the model was seen; if not, what is expected of it is a guess."""
        return (None, model) in self._means

    def learn(self, tenant: str, model: str, output_tokens: int) -> None:
        """Take an answer into account."""
        if len(self._means) > REMEMBERED:
            self._means.clear()
        for whose in (tenant, None):
            mean = self._means.get((whose, model))
            self._means[whose, model] = (
                float(output_tokens) if mean is None else mean + WEIGHT * (output_tokens - mean)
            )
