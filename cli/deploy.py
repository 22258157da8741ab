"""`qzoom deploy`: Q-Zoom on a Kubernetes cluster, from rendering to rollback."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.console import Failure, err, out
from cli.size import size

if TYPE_CHECKING:
    from deploy.k8s.cluster import Cluster
    from deploy.k8s.manifest import Manifest
    from deploy.k8s.release import Applied
    from deploy.k8s.status import Status

app = typer.Typer(
    no_args_is_help=True,
    help="Render, check, install, watch and upgrade Q-Zoom on Kubernetes.",
    epilog="Start with [bold]qzoom deploy doctor -f local[/]; docs/operations.md tells the rest.",
)

Files = Annotated[
    list[str] | None,
    typer.Option("--values", "-f", help="Profile (local, gpu, ha) or YAML file; may be repeated."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="One value as path.to.key=value; may be repeated.")
]
Name = Annotated[str, typer.Option("--name", help="Name of the release and its RayService.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the objects.")]
Context = Annotated[
    str | None,
    typer.Option(help="Context in the kubeconfig (KUBECONFIG or ~/.kube/config)."),
]
Timeout = Annotated[float, typer.Option("--timeout", help="Longest wait in seconds.")]
Force = Annotated[bool, typer.Option("--force", help="Take over fields that others have set.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it answers.")]

_COLOURS = {"ok": "green", "unknown": "yellow", "missing": "red"}
_DEFAULT = "qzoom"


@app.command()
def render(
    values: Files = None,
    settings: Settings = None,
    name: Name = _DEFAULT,
    namespace: Namespace = _DEFAULT,
) -> None:
    """Write the objects to standard output as YAML; complain about what cannot work."""
    import yaml

    manifests = _rendered(values, settings, name, namespace)
    out.file.write(yaml.safe_dump_all(manifests, sort_keys=False))


@app.command()
def doctor(
    values: Files = None,
    settings: Settings = None,
    name: Name = _DEFAULT,
    namespace: Namespace = _DEFAULT,
    context: Context = None,
) -> None:
    """Say what is missing in the cluster. Changes nothing; exit code 1 if something is."""
    from deploy.k8s.doctor import examine

    manifests = _rendered(values, settings, name, namespace)
    with _connected(namespace, context) as cluster:
        findings = examine(cluster, manifests)
    for finding in findings:
        colour = _COLOURS[finding.verdict]
        out.print(f"[{colour}]{finding.verdict:8}[/] {escape(finding.what)}", highlight=False)
        if finding.remedy:
            out.print(f"         {escape(finding.remedy)}", style="dim", highlight=False)
    if any(finding.verdict == "missing" for finding in findings):
        raise typer.Exit(1)


@app.command()
def apply(
    values: Files = None,
    settings: Settings = None,
    name: Name = _DEFAULT,
    namespace: Namespace = _DEFAULT,
    context: Context = None,
    force: Force = False,
    wait: Wait = True,
    timeout: Timeout = 1800.0,
) -> None:
    """Install or change: server-side apply of all objects, tried on the server before."""
    from deploy.k8s.release import apply as apply_all
    from deploy.k8s.release import images

    manifests = _rendered(values, settings, name, namespace)
    note = f"apply {' '.join(values or ('defaults',))}: {', '.join(images(manifests))}"
    with _connected(namespace, context) as cluster:
        applied = apply_all(
            cluster, name, manifests, note, force=force, on_object=lambda o: err.print(f"  {o}")
        )
        _tell(applied)
        if wait:
            _follow(cluster, name, manifests, timeout)


@app.command()
def rollout(
    values: Files = None,
    settings: Settings = None,
    name: Name = _DEFAULT,
    namespace: Namespace = _DEFAULT,
    context: Context = None,
    force: Force = False,
    timeout: Timeout = 3600.0,
) -> None:
    """Upgrade what runs: say first whether it happens in place, then apply and watch the switch."""
    from deploy.k8s.manifest import name_of, ray_service
    from deploy.k8s.release import apply as apply_all
    from deploy.k8s.release import classify, images
    from deploy.k8s.status import RAY_API

    manifests = _rendered(values, settings, name, namespace)
    wanted = ray_service(manifests)
    with _connected(namespace, context) as cluster:
        live = cluster.get(RAY_API, "RayService", name_of(wanted))
        if live is None:
            raise Failure(f"nothing runs as {name_of(wanted)}; install it with: qzoom deploy apply")
        err.print(f"this rollout: [bold]{classify(live, wanted)}[/]")
        note = f"rollout: {', '.join(images(manifests))}"
        _tell(apply_all(cluster, name, manifests, note, force=force))
        _follow(cluster, name, manifests, timeout)


@app.command()
def rollback(
    revision: Annotated[int | None, typer.Argument(help="By default the one before.")] = None,
    name: Name = _DEFAULT,
    namespace: Namespace = _DEFAULT,
    context: Context = None,
    force: Force = False,
    timeout: Timeout = 3600.0,
) -> None:
    """Go back to the objects of an earlier revision and watch the switch."""
    from deploy.k8s.history import read_history
    from deploy.k8s.release import rollback as go_back

    with _connected(namespace, context) as cluster:
        _tell(go_back(cluster, name, revision, force=force))
        _follow(cluster, name, read_history(cluster, name)[-1].manifests, timeout)


@app.command()
def history(
    name: Name = _DEFAULT,
    namespace: Namespace = _DEFAULT,
    context: Context = None,
) -> None:
    """List what was applied, the oldest first."""
    from deploy.k8s.history import read_history

    table = Table("revision", "applied", "note", box=None)
    with _connected(namespace, context) as cluster:
        for revision in read_history(cluster, name):
            table.add_row(str(revision.number), revision.applied_at, escape(revision.note))
    out.print(table)


@app.command()
def status(
    name: Name = _DEFAULT,
    namespace: Namespace = _DEFAULT,
    context: Context = None,
) -> None:
    """Show stages, pods and what is waited for; exit code 1 if it is not ready."""
    from deploy.k8s.status import fetch_status

    with _connected(namespace, context) as cluster:
        found = fetch_status(cluster, name)
    _show(found)
    if not found.ready:
        raise typer.Exit(1)


@app.command()
def wait(
    name: Name = _DEFAULT,
    namespace: Namespace = _DEFAULT,
    context: Context = None,
    timeout: Timeout = 1800.0,
) -> None:
    """Wait until it answers with what was applied last; name the stage that hangs."""
    with _connected(namespace, context) as cluster:
        _wait(cluster, name, timeout)


app.command()(size)


def _rendered(
    values: list[str] | None, settings: list[str] | None, name: str, namespace: str
) -> "list[Manifest]":
    try:
        from deploy.k8s.checks import check
        from deploy.k8s.render import RenderError
        from deploy.k8s.render import render as render_chart
        from deploy.k8s.values import load_values
    except ImportError as error:
        raise Failure(f"deploying needs pip install 'qzoom[deploy,gateway]': {error}") from error
    try:
        manifests = render_chart(load_values(values or (), settings or ()), name, namespace)
    except (ValueError, RenderError) as error:
        raise Failure(str(error)) from error
    problems = check(manifests)
    if problems:
        raise Failure("the chart renders what cannot work:\n  " + "\n  ".join(problems), 1)
    return manifests


@contextmanager
def _connected(namespace: str, context: str | None) -> "Iterator[Cluster]":
    try:
        from deploy.k8s.cluster import Cluster, ClusterError, ConflictError
    except ImportError as error:
        raise Failure(f"deploying needs pip install 'qzoom[deploy,gateway]': {error}") from error
    try:
        with Cluster(namespace, context) as cluster:
            yield cluster
    except ConflictError as error:
        raise Failure(f"{error}\n  --force takes the field over", 1) from error
    except ClusterError as error:
        raise Failure(str(error), 1) from error


def _tell(applied: "Applied") -> None:
    err.print(f"revision {applied.revision}: [bold]{applied.change}[/]")
    for label in applied.deleted:
        err.print(f"  deleted {label}, which is no longer wanted")


def _follow(cluster: "Cluster", name: str, manifests: "list[Manifest]", timeout: float) -> None:
    from deploy.k8s.manifest import name_of, ray_service

    try:
        _wait(cluster, name_of(ray_service(manifests)), timeout)
    except Failure as error:
        back = f"qzoom deploy rollback --name {name} --namespace {cluster.namespace}"
        raise Failure(f"{error.message}\n  to go back: {back}", 1) from error


def _wait(cluster: "Cluster", name: str, timeout: float) -> None:
    from deploy.k8s.release import NotReadyError
    from deploy.k8s.release import wait as wait_for

    last = ""

    def tell(found: "Status") -> None:
        nonlocal last
        line = "ready" if found.done else found.blocker()
        if line != last:
            err.print(escape(line), highlight=False)
            last = line

    try:
        found = wait_for(cluster, name, timeout, tell)
    except NotReadyError as error:
        raise Failure(str(error), 1) from error
    _show(found)


def _show(found: "Status") -> None:
    for title, cluster in (("active", found.active), ("pending", found.pending)):
        if cluster is None:
            continue
        share = (
            "" if cluster.traffic_percent is None else f", {cluster.traffic_percent} % of traffic"
        )
        table = Table("stage", "state", "message", box=None, title_justify="left")
        table.title = f"{title} cluster {cluster.name}{share}"
        for stage in cluster.stages:
            table.add_row(stage.name, stage.state, escape(stage.message))
        out.print(table)
    pods = Table("group", "pod", "ready", "problem", box=None)
    for pod in found.pods:
        pods.add_row(pod.group, pod.name, "yes" if pod.ready else "no", escape(pod.problem))
    out.print(pods)
    if found.done:
        out.print(f"[green]ready[/]: {found.endpoints} pods receive traffic")
    else:
        out.print(f"[yellow]waiting[/] for {escape(found.blocker())}", highlight=False)
