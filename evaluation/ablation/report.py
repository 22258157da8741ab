"""What an ablation found: rows of a table, pictures, and where both came from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.summary import Summary
from evaluation.tables import interval, share

Cell = str | float | int | None


@dataclass(frozen=True, slots=True)
class Report:
    """One table or figure.

    Attributes:
        name: Of the ablation.
        title: What it shows, and which table or figure of the paper has its shape.
        rows: One mapping for each variant; all have the same columns.
        pictures: Files beside the report.
        notes: What a reader must know.
        about: Model, recipe, schedule and data.
    """

    name: str
    title: str
    rows: Sequence[Mapping[str, Cell]]
    pictures: Sequence[str] = ()
    notes: Sequence[str] = ()
    about: dict[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """The report as a section of a document."""
        lines = [f"## {self.title}", ""]
        if self.rows:
            columns = list(self.rows[0])
            lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
            lines += ["| " + " | ".join(_text(row[c]) for c in columns) + " |" for row in self.rows]
            lines.append("")
        lines += [f"![{self.title}]({name})" for name in self.pictures]
        lines += [f"- {note}" for note in self.notes]
        if "command" in self.about:
            lines += ["", origin(self.about)]
        return "\n".join(lines).rstrip() + "\n"

    def save(self, folder: Path) -> None:
        """Write NAME.json and NAME.md."""
        folder.mkdir(parents=True, exist_ok=True)
        document = {
            "name": self.name,
            "title": self.title,
            "rows": [dict(row) for row in self.rows],
            "pictures": list(self.pictures),
            "notes": list(self.notes),
            "about": dict(self.about),
        }
        (folder / f"{self.name}.json").write_text(json.dumps(document, indent=1) + "\n")
        (folder / f"{self.name}.md").write_text(self.markdown())


def origin(about: Mapping[str, Any]) -> str:
    """What was typed, on which model and machine: a line of a document."""
    parts = [
        f"`{about['command']}`",
        f"model {about.get('model', '-')} {about.get('revision', '')}".strip(),
        f"{about.get('processor') or 'unknown processor'}, {about.get('threads', 1)} threads",
    ]
    return "; ".join(parts) + "."


def figures(summary: Summary) -> dict[str, Cell]:
    """The columns that most tables have."""
    detail = summary.groups.get("detail")
    return {
        "right": interval(summary.all),
        "right, detail": interval(detail),
        "zoomed": share(summary.zoom_share.value),
        "in box": share(summary.box_recall.value if summary.box_recall else None),
        "box area": share(summary.box_area.value if summary.box_area else None),
        "tokens": f"{summary.visual_tokens:.0f}",
    }


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)
