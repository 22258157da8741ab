"""What may be fetched? What the operator has listed, or the public internet; by default nothing."""

from dataclasses import dataclass

from gateway.fetch.target import DEFAULT_PORTS, Target, parse_target
from qzoom.errors import Forbidden, InvalidRequest

OFF = "off"
PUBLIC = "public"
MAX_SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True)
class HostRule:
    """One entry of the list.

    Attributes:
        host: Name or address; with `*.` in front, all names below it.
        port: None means the port of the scheme.
    """

    host: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> "HostRule":
        """Read `host`, `*.host`, `host:port`.

        Raises:
            ValueError: If it is none of these.
        """
        wildcard, bare = ("*.", text[2:]) if text.startswith("*.") else ("", text)
        try:
            target = parse_target(f"https://{bare}/", "entry")
        except InvalidRequest:
            target = None
        if target is None or target.url.path != "/" or target.url.query or "/" in bare:
            raise ValueError(f"{text[:MAX_SHOWN_CHARS]!a} is no host, *.host or host:port")
        if wildcard and target.address is not None:
            raise ValueError(f"{text[:MAX_SHOWN_CHARS]!a} is no host: an address has no subdomains")
        return cls(wildcard + target.host, target.url.port)

    def allows(self, target: Target) -> bool:
        """Tell whether a target is meant."""
        if target.port != (self.port or DEFAULT_PORTS[target.scheme]):
            return False
        if self.host.startswith("*."):
            return target.address is None and target.host.endswith(self.host[1:])
        return target.host == self.host


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """The operator's choice. Whatever it allows must still lie at a public address.

    Attributes:
        is_public: Every host at the ports of http and https.
        hosts: These hosts.
        allow_http: Whether http is followed beside https.
    """

    is_public: bool = False
    hosts: tuple[HostRule, ...] = ()
    allow_http: bool = False

    @classmethod
    def parse(cls, text: str, *, allow_http: bool = False) -> "FetchPolicy":
        """Read `off`, `public`, or hosts with commas between them.

        Raises:
            ValueError: If it is none of these.
        """
        words = [word.strip() for word in text.split(",")]
        if words == [OFF]:
            return cls()
        if words == [PUBLIC]:
            return cls(is_public=True, allow_http=allow_http)
        return cls(hosts=tuple(map(HostRule.parse, words)), allow_http=allow_http)

    @property
    def is_on(self) -> bool:
        """Whether anything may be fetched."""
        return self.is_public or bool(self.hosts)

    def check(self, target: Target, param: str) -> None:
        """Refuse what the operator does not allow.

        Raises:
            Forbidden: If the scheme, the host or the port is not allowed.
        """
        field = f"{param}.url"
        if target.scheme == "http" and not self.allow_http:
            raise Forbidden(f"{field} has scheme http, only https is allowed", param=field)
        if any(rule.allows(target) for rule in self.hosts):
            return
        shown = target.authority[:MAX_SHOWN_CHARS]
        if not self.is_public:
            raise Forbidden(
                f"{field} names {shown}, which is not on the operator's list", param=field
            )
        if target.port != DEFAULT_PORTS[target.scheme]:
            raise Forbidden(
                f"{field} names port {target.port}, only {DEFAULT_PORTS[target.scheme]} is allowed "
                f"with {target.scheme}",
                param=field,
            )
