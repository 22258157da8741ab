"""Does this code compute what the published code computes? Checks folders of reference vectors."""

from qzoom.model.verify.report import CaseReport, Check
from qzoom.model.verify.run import verify_case
from qzoom.model.verify.vectors import Case, VectorError, find_cases, read_case

__all__ = [
    "Case",
    "CaseReport",
    "Check",
    "VectorError",
    "find_cases",
    "read_case",
    "verify_case",
]
