"""Write the dashboards into the chart."""

from pathlib import Path

from deploy.dashboards import caches, gate, overview, scaling, stages, tenants
from deploy.dashboards.panels import to_json

BOARDS = (
    overview.BOARD, stages.BOARD, gate.BOARD, caches.BOARD, tenants.BOARD, scaling.BOARD,
)  # fmt: skip

FOLDER = Path(__file__).parent.parent / "helm" / "qzoom" / "files" / "dashboards"


def main() -> None:
    """Write one file for each board."""
    for board in BOARDS:
        (FOLDER / f"{board.name}.json").write_text(to_json(board))


if __name__ == "__main__":
    main()
