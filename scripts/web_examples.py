"""Writes the example pictures of the playground: those of `qzoom demo`, as files of the gateway.

The gateway has neither fonts nor the generator, so the pictures are drawn once and committed:

    python scripts/web_examples.py
"""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from cli.examples import examples

ASSETS = Path(__file__).parents[1] / "gateway" / "web" / "assets"


def drawn() -> tuple[dict[str, Image.Image], list[dict[str, Any]]]:
    """Draw the pictures by file name, and list the questions about them."""
    pictures: dict[str, Image.Image] = {}
    listed = []
    for example in examples():
        file = "examples/{}.png".format(example.name.partition(",")[0].replace(" ", "-"))
        pictures[file] = example.picture
        hint = "small print" if example.needs_detail else "at a glance"
        listed.append({"file": file, "question": example.question, "hint": hint})
    return pictures, listed


def main() -> None:
    """Write pictures and list, and remove pictures that no question is about."""
    pictures, listed = drawn()
    for old in (ASSETS / "examples").glob("*.png"):
        old.unlink()
    for file, picture in pictures.items():
        buffer = BytesIO()
        picture.save(buffer, "PNG", optimize=True)
        (ASSETS / file).write_bytes(buffer.getvalue())
    text = json.dumps(listed, indent=2, ensure_ascii=False)
    (ASSETS / "examples.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
