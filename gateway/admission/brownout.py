"""How much cost is shed before requests are? A controller with hysteresis, and its meaning.

Under rising load the threshold of the gate goes up and the budget of the RoI goes down, in steps,
within bounds that the operator chose or that follow from the model's calibration; only then
requests queue, and only then they are refused. As load falls, the steps are taken back one at a
time, later than they were taken. What a client chose itself is never changed.
"""

from dataclasses import dataclass, replace

from qzoom.contracts.calibration import highest_tau_gate
from qzoom.contracts.options import Options
from qzoom.contracts.status import ModelFacts

MIN_ROI_TOKENS = 4
"""Fewest tokens of a RoI that a client may ask for, too."""

UNCALIBRATED_TAU = 0.9
"""Threshold at the last level where neither the operator nor a calibration gives one."""


@dataclass(frozen=True, slots=True)
class BrownoutBounds:
    """What the operator allows.

    Attributes:
        steps: Levels above 0; 0 switches brown-out off.
        starts_at: Pressure at which the first level begins, in (0, 1). The last one begins at 1,
            where the queue does.
        hysteresis: How far pressure must fall below the beginning of a level to leave it.
        hold_s: Seconds for which it must stay there, again for each level.
        rise_s: Seconds for which it must stay above the beginning of the next level to enter it.
        max_tau_gate: Threshold of the gate at the last level, in [0, 1]; None takes it from the
            model's calibration and `max_loss`, see `highest_tau`.
        max_loss: Accuracy on the validation split of the calibration that raising the threshold may
            cost, in [0, 1].
        min_roi_share: Budget of the RoI at the last level over the usual one, in (0, 1].
    """

    steps: int = 4
    starts_at: float = 0.7
    hysteresis: float = 0.15
    hold_s: float = 5.0
    rise_s: float = 0.5
    max_tau_gate: float | None = None
    max_loss: float = 0.02
    min_roi_share: float = 0.5


@dataclass(frozen=True, slots=True)
class BrownoutState:
    """What the controller remembers.

    Attributes:
        level: 0 (nothing is shed) to `steps`.
        hot_since: Monotonic seconds since when pressure asks for a step up; None if it does not.
        calm_since: Monotonic seconds since when it allows a step down; None if it does not.
    """

    level: int = 0
    hot_since: float | None = None
    calm_since: float | None = None


def begins_at(level: int, bounds: BrownoutBounds) -> float:
    """Pressure at which a level begins: evenly from `starts_at` to 1."""
    if bounds.steps == 1:
        return bounds.starts_at
    return bounds.starts_at + (1.0 - bounds.starts_at) * (level - 1) / (bounds.steps - 1)


def controlled(
    state: BrownoutState, pressure: float, now: float, bounds: BrownoutBounds
) -> BrownoutState:
    """Take the next decision: at most one step up or down.

    Args:
        state: Of the last decision.
        pressure: Work in hand over what may be in hand, in [0, 1], plus the share of the queue
            that is taken; 1 means that the next request waits.
        now: Monotonic seconds.
        bounds: What the operator allows.

    Returns:
        The new state; a function of its arguments alone.
    """
    level = state.level
    if level > bounds.steps:  # The operator has allowed less meanwhile.
        return BrownoutState(bounds.steps)
    if level < bounds.steps and pressure >= begins_at(level + 1, bounds):
        since = now if state.hot_since is None else state.hot_since
        is_due = now - since >= bounds.rise_s
        return BrownoutState(level + 1, now) if is_due else BrownoutState(level, since)
    if level > 0 and pressure <= begins_at(level, bounds) - bounds.hysteresis:
        since = now if state.calm_since is None else state.calm_since
        is_due = now - since >= bounds.hold_s
        return BrownoutState(level - 1, None, now) if is_due else BrownoutState(level, None, since)
    return BrownoutState(level)


def highest_tau(facts: ModelFacts, bounds: BrownoutBounds) -> float:
    """Tell the threshold of the gate at the last level; never below the usual one.

    What the operator says counts, else the largest threshold that costs at most `max_loss` on the
    model's validation split, else, for a model that was not calibrated, `UNCALIBRATED_TAU`.
    """
    highest = bounds.max_tau_gate
    if highest is None and facts.accuracy_by_tau:
        highest = highest_tau_gate(facts.accuracy_by_tau, facts.tau_gate, bounds.max_loss)
    return max(facts.tau_gate, UNCALIBRATED_TAU if highest is None else highest)


def roi_tokens(facts: ModelFacts, share: float, bounds: BrownoutBounds) -> int:
    """Tell the budget of the RoI, where a part in [0, 1] of what may be shed is shed."""
    kept = 1.0 - share * (1.0 - bounds.min_roi_share)
    return max(MIN_ROI_TOKENS, round(facts.max_roi_tokens * kept))


def relieved(options: Options, facts: ModelFacts, level: int, bounds: BrownoutBounds) -> Options:
    """Apply a level to what a client left open: its threshold, its budget, never its route.

    Args:
        options: Of the request.
        facts: The model's own values.
        level: Of the controller.
        bounds: What the operator allows.

    Returns:
        Options with `tau_gate` and `max_roi_tokens` filled in where the level changes them.
    """
    share = min(1.0, level / bounds.steps) if bounds.steps else 0.0
    if share == 0.0 or options.route == "direct":
        return options
    tau_gate, max_roi_tokens = options.tau_gate, options.max_roi_tokens
    if options.route == "auto" and tau_gate is None and facts.has_gate:
        tau_gate = facts.tau_gate + share * (highest_tau(facts, bounds) - facts.tau_gate)
    # A model whose pictures all cost the same has no smaller RoI.
    if max_roi_tokens is None and facts.has_rpn and facts.rules.fixed_grid is None:
        max_roi_tokens = roi_tokens(facts, share, bounds)
    return replace(options, tau_gate=tau_gate, max_roi_tokens=max_roi_tokens)
