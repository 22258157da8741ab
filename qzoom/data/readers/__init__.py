"""Whose data can be read? Files that users already have, as one kind of record.

    llava.py    JSONL (or one JSON list) in the LLaVA conversation style
    native.py   the folders that `qzoom data make` writes
    stages.py   the published training stages' pickles, opened without running any of their code
    folders.py  Hugging Face data sets on disk: Parquet files, or what `save_to_disk` wrote

Readers are lazy, never trust a path, and report what they skip (`Problems`).
"""

from qzoom.data.readers.any import DataFormat, detect_format, read_records
from qzoom.data.readers.problems import Problems
from qzoom.data.record import Record

__all__ = ["DataFormat", "Problems", "Record", "detect_format", "read_records"]
