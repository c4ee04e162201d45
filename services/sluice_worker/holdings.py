"""Every job this worker holds: the registry that cancels, the self-audit and draining look into."""

from collections.abc import Iterable, Iterator

from sluice_worker.flight import Flight


class Holdings:
    """Flights by their ledger row, and how many bytes of requests they keep in memory."""

    def __init__(self) -> None:
        self._flights: dict[int, Flight] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[Flight]:
        return iter(tuple(self._flights.values()))

    def __contains__(self, row: int) -> bool:
        return row in self._flights

    def get(self, row: int) -> Flight | None:
        """The flight of a row, if it is held."""
        return self._flights.get(row)

    def add(self, flight: Flight) -> None:
        """Hold a job; in place of an earlier flight of its row, which has settled but not let go yet."""
        earlier = self._flights.get(flight.job.row)
        if earlier is not None:
            self.remove(earlier)
        self._flights[flight.job.row] = flight
        self.bytes += flight.size

    def remove(self, flight: Flight) -> None:
        """Let a job go; once more does nothing, nor where its row is in a later flight's hands."""
        if self._flights.get(flight.job.row) is flight:
            del self._flights[flight.job.row]
            self.bytes -= flight.size

    def missing(self, rows: Iterable[int]) -> set[int]:
        """Which of these rows are not held."""
        return {row for row in rows if row not in self._flights}
