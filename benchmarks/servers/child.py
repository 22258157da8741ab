"""How does a server under test live? It says when it is ready, and ends with whoever started it.

The starter reads one JSON object per line from the child's standard output, and writes one question
per line to its standard input; the end of the input ends the child.
"""

import json
import os
import select
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


def end_with_starter() -> None:
    """End this process if the starter has gone; for servers that take long to become ready.

    To be called before `live`: until then the starter writes nothing.

    Raises:
        SystemExit: If the input has ended.
    """
    if select.select([sys.stdin], [], [], 0.0)[0]:
        raise SystemExit("the starter has gone")


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
