"""Which route does a request take? The rule of the method, shared by pipeline and gateway."""

from qzoom.contracts.options import Route


def wants_zoom(route: Route, p_refine: float | None, tau_gate: float) -> bool:
    """Decide whether to ask for a region (Q-Zoom, Sec. III-B).

    Args:
        route: What the client chose; anything but `auto` is final.
        p_refine: The gate's score; without a gate, `auto` always asks.
        tau_gate: Zoom when the score is at least this.
    """
    if route != "auto":
        return route == "zoom"
    return p_refine is None or p_refine >= tau_gate
