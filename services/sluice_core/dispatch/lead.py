"""Pure: how much ahead of a moment the one who waits for it asks, since answers take a while."""

from typing import Final

MOST_LEAD_S: Final = 0.1
LEAD_WEIGHT: Final = 0.1
"""Of the newest answer in how long answers take."""
FADING: Final = 1.01
"""By how much the fastest answer of late counts as slower with each that was not faster."""


class Lead:
    """`seconds`: a running mean of how long before it is decided a question leaves."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._fastest_s = MOST_LEAD_S

    def answered_in(self, seconds: float, waited_s: float) -> None:
        """A batch of begins was answered after so long, and had waited so long to be asked.

        What was asked then is decided once the rows' locks are held: in the middle of the statement where nobody
        else holds them, near its end where it queued for them. The fastest of late is one that did not queue.
        """
        self._fastest_s = min(seconds, self._fastest_s * FADING + 1e-5)
        lead = min(MOST_LEAD_S, waited_s + seconds - self._fastest_s / 2)
        self.seconds += LEAD_WEIGHT * (lead - self.seconds)
