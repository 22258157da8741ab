"""Table I: what more visual tokens bring the plain model, and cost it."""

from evaluation.ablation.report import Report, figures
from evaluation.ablation.workshop import Workshop
from evaluation.modes import Mode, doubling_budgets
from qzoom.model.loading import open_checkpoint

TIMES_COARSE, MOST_TOKENS = 9, 4096
"""The full budget: nine times the coarse one, as three times the sides, up to the paper's."""


def run(workshop: Workshop) -> Report:
    """Ask the plain model at rising budgets."""
    coarse = open_checkpoint(workshop.model).qzoom.coarse_max_tokens
    rows = []
    for budget in doubling_budgets(coarse, min(TIMES_COARSE * coarse, MOST_TOKENS)):
        found = workshop.summary(workshop.model, Mode("base", budget))
        speed = found.per_cpu_s
        rows.append(
            {
                "max tokens": budget,
                "requests a CPU s": None if speed is None else round(speed, 2),
                **{k: v for k, v in figures(found).items() if k in {"right", "right, detail"}},
            }
        )
    return Report("table-1", "The plain model at rising budgets (Table I)", rows)
