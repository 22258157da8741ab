"""How far is each deployment? As Serve tells it, and why one of them cannot start."""

import re

from qzoom.errors import Unavailable


def deployment_states(application: str) -> dict[str, str]:
    """Ask Serve how far each deployment is.

    Args:
        application: Its name.

    Raises:
        Unavailable: If one of them failed; with what its constructor raised.
    """
    from ray import serve  # noqa: PLC0415 Ray reads its environment on import
    from ray.serve.schema import ApplicationStatus  # noqa: PLC0415 for the same reason

    status = serve.status().applications.get(application)
    if status is None:
        return {}
    if status.status == ApplicationStatus.DEPLOY_FAILED:
        reasons = [failure_reason(name, d.message) for name, d in status.deployments.items()]
        known = [reason for reason in reasons if reason is not None]
        raise Unavailable("; ".join(known) or status.message)
    return {name: state.status.value for name, state in status.deployments.items()}


def failure_reason(service: str, message: str) -> str | None:
    """Find what a constructor raised at the end of the traceback in Serve's message."""
    _, marker, traceback = message.partition("Error:\n")
    lines = [line.strip() for line in traceback.splitlines() if line.strip()]
    if not marker or not lines:
        return None
    return f"the {service} service did not start: " + re.sub(r"^[\w.]+: ", "", lines[-1])
