"""How does a server under test live? It says when it is ready, and ends with whoever started it.

The starter reads one JSON object per line from the child's standard output, and writes one question
per line to its standard input; the end of the input ends the child.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO


def own_output() -> TextIO:
    """Keep standard output for messages: what libraries print goes to standard error."""
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return messages


def arguments() -> dict[str, Any]:
    """Read what the starter wants, a JSON object."""
    given = json.loads(sys.argv[1])
    assert isinstance(given, dict)
    return given


def live(
    messages: TextIO, ready: Mapping[str, Any], questions: Mapping[str, Callable[[], Any]]
) -> None:
    """Say that the server is ready, then answer questions until the input ends.

    Args:
        messages: From `own_output`.
        ready: What the starter must know: `url`, `model` and more.
        questions: What can be asked, with its answer.
    """
    messages.write(json.dumps(dict(ready)) + "\n")
    for line in sys.stdin:
        answer = questions[line.strip()]()
        messages.write(json.dumps({"answer": answer}) + "\n")
