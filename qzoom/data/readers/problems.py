"""What was wrong with a data set? Every skipped record is counted; the first ones are named."""

from collections import Counter

KEPT = 20
"""Problems that are kept word for word."""


class BadRecord(Exception):
    """A record cannot be used.

    Args:
        reason: What is wrong, with the value; the same words for the same kind of fault.
        detail: What makes this one differ, such as a file's name.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class Problems:
    """Collects the records that a reader skipped.

    Attributes:
        first: The first `KEPT` of them, "file:line: reason".
        by_reason: How many there were of each kind.
    """

    def __init__(self) -> None:
        self.first: list[str] = []
        self.by_reason: Counter[str] = Counter()

    def add(self, where: str, error: BadRecord) -> None:
        """Report a record.

        Args:
            where: File and line, or file and row, that it stands in.
            error: What is wrong with it.
        """
        self.by_reason[error.reason] += 1
        if len(self.first) < KEPT:
            self.first.append(f"{where}: {error}")

    @property
    def count(self) -> int:
        """Records skipped."""
        return self.by_reason.total()

    def __str__(self) -> str:
        if not self.count:
            return "no record was skipped"
        kinds = ", ".join(f"{count} x {reason}" for reason, count in self.by_reason.most_common())
        plural = "record was" if self.count == 1 else "records were"
        return "\n".join([f"{self.count} {plural} skipped ({kinds})", *self.first])
