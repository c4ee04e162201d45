"""What the input alone of an abandoned call may have cost: the floor that `unknown.book: input_only` books."""

from datetime import UTC, datetime

from sluice_core.config.model import Config
from sluice_core.jobs.model import Facts, OpenAttempt
from sluice_core.pricing.book import PriceBook
from sluice_core.pricing.model import PriceOverride
from sluice_core.pricing.policy import worst_case


class Prices:
    """Resolves an attempt's prices from the configuration of now and the catalogue of when it began."""

    def __init__(self, config: Config, book: PriceBook) -> None:
        self._config = config
        self._book = book

    def provider_of(self, account: str) -> str:
        """The OpenTelemetry name of an account's provider; the account's own where it is configured no more."""
        configured = self._config.providers.get(account)
        return account if configured is None else configured.provider_name

    def input_nano(self, facts: Facts, attempt: OpenAttempt, request_bytes: int) -> int:
        """Nano-dollars that a request of so many bytes costs at most before anything is answered."""
        model = self._config.models.get(facts.model or "")
        prices = None if model is None else model.prices
        override = None
        if prices is not None:
            override = PriceOverride(
                input=prices.input,
                cached_input=prices.cached_input,
                cache_write=prices.cache_write,
                output=prices.output,
            )
        entry = self._book.resolve(
            self.provider_of(attempt.account),
            attempt.provider_model,
            at=datetime.fromtimestamp(attempt.started_at, UTC),
            override=override,
        )
        return worst_case(entry, body_bytes=request_bytes, max_output_tokens=0, n=1)
