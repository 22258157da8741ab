"""How much cost is shed before requests are? A controller with hysteresis, and its meaning.

Under rising load the threshold of the gate goes up and the budget of the RoI goes down, in steps,
within bounds that the operator chose; only then requests queue, and only then they are refused. As
load falls, the steps are taken back one at a time, later than they were taken. What a client chose
itself is never changed.
"""

from dataclasses import dataclass, replace

from qzoom.contracts.options import Options
from qzoom.contracts.status import ModelFacts

MIN_ROI_TOKENS = 4
"""Fewest tokens of a RoI that a client may ask for, too."""


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
        max_tau_gate: Threshold of the gate at the last level, in [0, 1].
        min_roi_share: Budget of the RoI at the last level over the usual one, in (0, 1].
    """

    steps: int = 4
    starts_at: float = 0.7
    hysteresis: float = 0.15
    hold_s: float = 5.0
    rise_s: float = 0.5
    max_tau_gate: float = 0.9
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
        room = max(0.0, bounds.max_tau_gate - facts.tau_gate)
        tau_gate = facts.tau_gate + share * room
    # A model whose pictures all cost the same has no smaller RoI.
    if max_roi_tokens is None and facts.has_rpn and facts.rules.fixed_grid is None:
        kept = 1.0 - share * (1.0 - bounds.min_roi_share)
        max_roi_tokens = max(MIN_ROI_TOKENS, round(facts.max_roi_tokens * kept))
    return replace(options, tau_gate=tau_gate, max_roi_tokens=max_roi_tokens)
