"""How do we speak with a Kubernetes API server? Typed answers, one kind of error, deadlines."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from kubernetes import config
from kubernetes.client import ApiClient, Configuration, VersionApi
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from urllib3.exceptions import HTTPError

from deploy.k8s.manifest import Manifest, label_of, name_of

FIELD_MANAGER = "qzoom-deploy"
"""Owner of the fields that we apply, in `metadata.managedFields`."""

# The package says that it is typed; these parts of it are not.
_config: Any = config
_DynamicClient: Any = DynamicClient

_NOT_FOUND = 404
_CONFLICT = 409
_FORBIDDEN = 403


class ClusterError(Exception):
    """The cluster cannot be reached or refuses; the message is for the operator."""


class ForbiddenError(ClusterError):
    """The account may not do this."""


class ConflictError(ClusterError):
    """Another manager owns a field that we want to set."""


@dataclass(frozen=True, slots=True)
class Permission:
    """One thing that an account may or may not do in the namespace.

    Attributes:
        verb: Such as `patch`.
        group: API group; empty for the core group.
        resource: Plural name, such as `services`.
    """

    verb: str
    group: str
    resource: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{'.' + self.group if self.group else ''}"


class Cluster:
    """One cluster, as the current user, in one namespace; a context manager.

    Args:
        namespace: That everything is about.
        context: In the kubeconfig (`KUBECONFIG`, `~/.kube/config`); None takes its current one,
            or the pod's own account inside a cluster.
        timeout_s: Longest time of one request.

    Raises:
        ClusterError: If there is no usable configuration or no answer.
    """

    def __init__(self, namespace: str, context: str | None = None, timeout_s: float = 30.0) -> None:
        self.namespace = namespace
        configuration = Configuration()
        try:
            _load_config(context, configuration)
        except config.ConfigException as error:
            raise ClusterError(f"no usable kubeconfig: {error}") from error
        # urllib3 would try three times, each with the whole timeout.
        configuration.retries = False
        self._api = _TimedClient(configuration, timeout_s)
        # By default discovery is kept in a file that other clusters and users may have written.
        self._folder = tempfile.TemporaryDirectory()
        try:
            with _explained("reach the API server"):
                self._client = _DynamicClient(
                    self._api, cache_file=f"{self._folder.name}/kinds.json"
                )
        except ClusterError:
            self._folder.cleanup()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close connections and forget what was discovered."""
        self._api.rest_client.pool_manager.clear()
        self._folder.cleanup()

    def server_version(self) -> str:
        """Version of the API server, such as `v1.32.4`."""
        with _explained("ask for the version"):
            return str(VersionApi(self._api).get_code().git_version)

    def has_kind(self, api_version: str, kind: str) -> bool:
        """Whether the cluster knows a kind."""
        with _explained(f"look for {kind}"):
            try:
                self._client.resources.get(api_version=api_version, kind=kind)
            except ResourceNotFoundError:
                return False
            return True

    def plural(self, api_version: str, kind: str) -> str:
        """Plural name of a kind, as permissions use it."""
        return str(self._resource(api_version, kind).name)

    def apply(self, manifest: Manifest, *, dry_run: bool = False, force: bool = False) -> Manifest:
        """Create or change an object by server-side apply.

        Args:
            manifest: All fields that we want to own.
            dry_run: Whether the server only checks.
            force: Whether fields of other managers are taken over.

        Raises:
            ConflictError: If another manager owns a field and `force` is false.
            ClusterError: If the server refuses.
        """
        resource = self._resource(manifest["apiVersion"], manifest["kind"])
        with _explained(f"apply {label_of(manifest)}"):
            answer = self._client.server_side_apply(
                resource,
                body=manifest,
                name=name_of(manifest),
                namespace=self.namespace,
                field_manager=FIELD_MANAGER,
                force_conflicts=force,
                dry_run="All" if dry_run else None,
            )
        return _plain(answer)

    def get(self, api_version: str, kind: str, name: str) -> Manifest | None:
        """Read an object; None if there is none."""
        resource = self._resource(api_version, kind)
        with _explained(f"read {kind}/{name}"):
            try:
                answer = self._client.get(
                    resource,
                    name=name,
                    namespace=self.namespace if resource.namespaced else None,
                )
            except ApiException as error:
                if error.status == _NOT_FOUND:
                    return None
                raise
        return _plain(answer)

    def list(
        self, api_version: str, kind: str, selector: str = "", namespace: str | None = None
    ) -> list[Manifest]:
        """Read all objects of a kind with the given labels.

        Args:
            api_version: Of the kind.
            kind: Such as `Pod`.
            selector: `key=value,...`; empty for all.
            namespace: Ours by default; empty for all namespaces.
        """
        resource = self._resource(api_version, kind)
        where = self.namespace if namespace is None else namespace
        with _explained(f"list {kind}"):
            answer = self._client.get(
                resource,
                namespace=where if resource.namespaced and where else None,
                label_selector=selector or None,
            )
        return list(_plain(answer).get("items", []))

    def delete(self, api_version: str, kind: str, name: str) -> None:
        """Delete an object and what it owns; nothing happens if there is none."""
        resource = self._resource(api_version, kind)
        with _explained(f"delete {kind}/{name}"):
            try:
                self._client.delete(
                    resource,
                    name=name,
                    namespace=self.namespace,
                    body={"propagationPolicy": "Background"},
                )
            except ApiException as error:
                if error.status != _NOT_FOUND:
                    raise

    def may(self, permission: Permission) -> bool:
        """Ask the server whether the current account may do something here."""
        resource = self._resource("authorization.k8s.io/v1", "SelfSubjectAccessReview")
        attributes = {
            "namespace": self.namespace,
            "verb": permission.verb,
            "group": permission.group,
            "resource": permission.resource,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        with _explained(f"ask whether we may {permission}"):
            answer = self._client.create(resource, body=body)
        return bool(_plain(answer)["status"]["allowed"])

    def _resource(self, api_version: str, kind: str) -> Any:  # noqa: ANN401
        with _explained(f"look for {kind}"):
            return self._client.resources.get(api_version=api_version, kind=kind)


class _TimedClient(ApiClient):
    """A client whose every request has a deadline, those of discovery included."""

    def __init__(self, configuration: Configuration, timeout_s: float) -> None:
        super().__init__(configuration)
        self._timeout_s = timeout_s

    def call_api(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Make a request, with our deadline where it has none."""
        kwargs["_request_timeout"] = kwargs.get("_request_timeout") or self._timeout_s
        return super().call_api(*args, **kwargs)


def _load_config(context: str | None, configuration: Configuration) -> None:
    if context is None:
        try:
            _config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            pass
        else:
            return
    _config.load_kube_config(context=context, client_configuration=configuration)


def _plain(answer: Any) -> Manifest:  # noqa: ANN401
    plain: Manifest = answer.to_dict()
    return plain


@contextmanager
def _explained(action: str) -> Iterator[None]:
    """Turn the client's exceptions into one sentence for the operator."""
    try:
        yield
    except ResourceNotFoundError as error:
        raise ClusterError(f"cannot {action}: the cluster does not know this kind") from error
    except ApiException as error:
        kinds = {_FORBIDDEN: ForbiddenError, _CONFLICT: ConflictError}
        kind = kinds.get(error.status, ClusterError)
        raise kind(f"cannot {action}: {_message(error)}") from error
    except HTTPError as error:
        raise ClusterError(f"cannot {action}: {error}") from error


def _message(error: ApiException) -> str:
    """What the server says, or its status where it says nothing."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
