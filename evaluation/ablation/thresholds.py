"""Table VIII: thresholds of the labels; equal ones leave nothing to ignore."""

from evaluation.ablation.report import Report, figures
from evaluation.ablation.workshop import Workshop
from evaluation.modes import Mode

PAIRS = ((0.1, 0.1), (0.15, 0.1), (0.2, 0.1), (0.3, 0.1), (0.2, 0.05), (0.2, 0.03), (0.4, 0.4))
"""(tau_fg, tau_bg): the paper's, and the pair that coarse grids of few cells want."""


def run(workshop: Workshop) -> Report:
    """Train an RPN for each pair, on the same attention."""
    rows = []
    for fg, bg in PAIRS:
        changes = [f"region_labels.rules.tau_fg={fg}", f"region_labels.rules.tau_bg={bg}"]
        model = workshop.rpn(f"fg{fg}-bg{bg}", changes)
        found = figures(workshop.summary(model, Mode("zoom")))
        rows.append({"tau_fg": str(fg), "tau_bg": str(bg), **found})
    return Report("table-8", "Thresholds of the labels (Table VIII)", rows)
