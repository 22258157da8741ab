"""Table IV: RPN, Post-SFT and gate, one after the other.

Post-SFT changes the base's own weights, so a checkpoint without it must be given to have its rows.
"""

from pathlib import Path

from evaluation.ablation.report import Report, figures
from evaluation.ablation.workshop import Workshop
from evaluation.modes import Mode
from evaluation.oracle import oracle_results
from evaluation.summary import Summary, summarize


def run(workshop: Workshop, before_sft: Path | None = None) -> Report:
    """Enable the parts one by one.

    Args:
        workshop: Its checkpoint has all parts.
        before_sft: The checkpoint as it was before Post-SFT.
    """
    variants: list[tuple[str, Path, Mode]] = []
    if before_sft is not None:
        variants += [
            ("base", before_sft, Mode("base")),
            ("+ RPN", before_sft, Mode("zoom")),
            ("+ RPN + SFT", workshop.model, Mode("zoom")),
            ("+ RPN + SFT + gate", workshop.model, Mode("auto")),
        ]
    else:
        variants += [
            ("base", workshop.model, Mode("base")),
            ("+ RPN", workshop.model, Mode("zoom")),
            ("+ RPN + gate", workshop.model, Mode("auto")),
        ]
    answered = {name: workshop.ask(model, mode) for name, model, mode in variants}
    names = list(answered)
    oracle = oracle_results(answered[names[0]], answered[names[-2]], Mode("oracle"))
    summaries = {name: summarize(results) for name, results in answered.items()}
    summaries["a perfect gate"] = summarize(oracle)
    base = summaries[names[0]]
    rows = [
        {"": name, "throughput": _relative(found, base), **figures(found)}
        for name, found in summaries.items()
    ]
    notes = ["Throughput is relative to the base at the coarse budget, in CPU time of one process."]
    if before_sft is None:
        notes.append("No row for Post-SFT: give the checkpoint from before it to have one.")
    return Report("table-4", "Components one by one (Table IV)", rows, notes=notes)


def _relative(found: Summary, base: Summary) -> str:
    if found.per_cpu_s is None or base.per_cpu_s is None:
        return "-"
    return f"{found.per_cpu_s / base.per_cpu_s:.2f} x"
