"""Tokens of an issuer: a real one on a socket, real signatures, and those who forge them."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from pydantic import ValidationError

from gateway.access import oidc
from gateway.access.oidc import OidcSettings, OidcVerifier
from gateway.settings import GatewaySettings
from qzoom.errors import Unauthenticated, Unavailable


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """A busy machine answers later than an issuer may."""
    monkeypatch.setattr(oidc, "FETCH_TIMEOUT_S", 30.0)


@dataclass
class Issuer:
    """Publishes keys and signs tokens."""

    url: str = ""
    rsa_key: rsa.RSAPrivateKey = field(
        default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )
    ec_key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    published: dict[str, object] = field(default_factory=dict)
    fetches: int = 0
    is_away: bool = False
    said_issuer: str | None = None

    def __post_init__(self) -> None:
        self.publish("one")

    def publish(self, name: str) -> None:
        rsa_jwk = json.loads(RSAAlgorithm.to_jwk(self.rsa_key.public_key()))
        ec_jwk = json.loads(ECAlgorithm.to_jwk(self.ec_key.public_key()))
        self.published = {
            "keys": [
                rsa_jwk | {"kid": name, "alg": "RS256", "use": "sig"},
                ec_jwk | {"kid": f"ec-{name}", "alg": "ES256", "use": "sig"},
            ]
        }

    def token(self, *, kid="one", algorithm="RS256", key=None, drop=(), **claims) -> str:
        now = int(time.time())
        payload = {
            "iss": self.url, "aud": "qzoom", "exp": now + 300, "iat": now, "tenant": "acme",
        } | claims  # fmt: skip
        payload = {name: value for name, value in payload.items() if name not in drop}
        chosen = key or (self.ec_key if algorithm == "ES256" else self.rsa_key)
        return jwt.encode(payload, chosen, algorithm=algorithm, headers={"kid": kid})


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    state = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.fetches += 1
            documents = {
                "/.well-known/openid-configuration": {
                    "issuer": state.said_issuer or state.url,
                    "jwks_uri": f"{state.url}/keys",
                },
                "/keys": state.published,
            }
            body = json.dumps(documents[self.path]).encode()
            self.send_response(503 if state.is_away else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Keep the test's output free of access lines."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield state
    server.shutdown()
    thread.join(5)
    server.server_close()


@pytest.fixture
async def verifier(issuer):
    made = OidcVerifier(OidcSettings(issuer.url, "qzoom"))
    yield made
    await made.close()


@pytest.mark.parametrize(("algorithm", "kid"), [("RS256", "one"), ("ES256", "ec-one")])
async def test_a_token_names_its_tenant(issuer, verifier, algorithm, kid):
    assert await verifier.tenant(issuer.token(algorithm=algorithm, kid=kid)) == "acme"


async def test_keys_are_fetched_once(issuer, verifier):
    await asyncio.gather(*(verifier.tenant(issuer.token()) for _ in range(20)))

    assert issuer.fetches == 2  # The discovery document, then the keys.


async def test_another_claim_may_name_the_tenant(issuer):
    verifier = OidcVerifier(
        OidcSettings(issuer.url, "qzoom", tenant_claim="org", jwks_url=f"{issuer.url}/keys")
    )

    assert await verifier.tenant(issuer.token(org="umbrella")) == "umbrella"
    assert issuer.fetches == 1
    await verifier.close()


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"iss": "https://another"},
        {"exp": 1_500_000_000},
        {"nbf": 4_000_000_000},
        {"tenant": "a b"},
        {"tenant": ["acme"]},
        {"tenant": None},
        {"drop": ("exp",)},
        {"drop": ("aud",)},
        {"drop": ("iss",)},
        {"drop": ("tenant",)},
        {"kid": "ec-one"},
        {"algorithm": "RS384"},
    ],
    ids=repr,
)
async def test_a_token_with_a_wrong_claim_lets_nobody_in(issuer, verifier, claims):
    with pytest.raises(Unauthenticated):
        await verifier.tenant(issuer.token(**claims))


async def test_a_forged_token_lets_nobody_in(issuer, verifier):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    good = issuer.token()
    head, payload, signature = good.split(".")
    none = jwt.encode({"tenant": "acme"}, None, algorithm="none", headers={"kid": "one"})
    # A public key used as the secret of a symmetric algorithm.
    public = json.dumps(issuer.published["keys"][0])
    confused = jwt.encode({"tenant": "acme"}, public * 2, "HS256", headers={"kid": "one"})

    for forged in (
        issuer.token(key=other),
        none,
        confused,
        f"{head}.{payload}.",
        f"{head}.{payload}x.{signature}",
        f"{head}.{payload}.{signature[:-4]}AAAA",
        "a.b.c",
        "..",
    ):
        with pytest.raises(Unauthenticated):
            await verifier.tenant(forged)
    assert await verifier.tenant(good) == "acme"


async def test_unknown_keys_cause_one_fetch_and_new_keys_are_found(issuer, verifier, monkeypatch):
    await verifier.tenant(issuer.token())
    outcomes = await asyncio.gather(
        *(verifier.tenant(issuer.token(kid=f"{i}")) for i in range(50)), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {Unauthenticated}
    assert issuer.fetches == 2

    issuer.publish("two")
    monkeypatch.setattr(oidc, "REFETCH_S", 0.0)

    assert await verifier.tenant(issuer.token(kid="two")) == "acme"
    with pytest.raises(Unauthenticated):
        await verifier.tenant(issuer.token(kid="one"))


async def test_known_keys_go_on_while_the_issuer_is_away(issuer, verifier, monkeypatch):
    await verifier.tenant(issuer.token())
    issuer.is_away = True
    monkeypatch.setattr(oidc, "KEEP_S", 0.0)
    monkeypatch.setattr(oidc, "REFETCH_S", 0.0)

    assert await verifier.tenant(issuer.token()) == "acme"


async def test_an_issuer_that_never_answered_is_unavailable(issuer, verifier):
    issuer.is_away = True

    with pytest.raises(Unavailable, match="keys of the issuer"):
        await verifier.tenant(issuer.token())


async def test_a_document_of_somebody_else_is_not_believed(issuer, verifier):
    issuer.said_issuer = "https://another"

    with pytest.raises(Unavailable):
        await verifier.tenant(issuer.token())


async def test_a_document_that_is_too_long_is_not_read(issuer, verifier):
    issuer.published = {"keys": [{"kty": "RSA", "n": "A" * oidc.MAX_DOCUMENT_BYTES}]}

    with pytest.raises(Unavailable):
        await verifier.tenant(issuer.token())


async def test_a_token_goes_all_the_way(make_system, issuer):
    system = make_system(required=True, oidc=OidcSettings(issuer.url, "qzoom"))

    caller = await system.access.identify({"authorization": f"Bearer {issuer.token()}"})

    assert (caller.tenant, caller.name, caller.sees) == ("acme", "token", "acme")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"oidc_issuer": "http://issuer.example", "oidc_audience": "q"}, "must be an https"),
        ({"oidc_issuer": "https://issuer.example"}, "need each other"),
        (
            {
                "oidc_issuer": "https://i.example",
                "oidc_audience": "q",
                "oidc_algorithms": ("HS256",),
            },
            "oidc_algorithms has HS256",
        ),
        (
            {"oidc_issuer": "https://i.example", "oidc_audience": "q", "auth": "off"},
            "no effect while auth is off",
        ),
        ({"store": "redis://:pw@host"}, "belongs in QZOOM_STORE_PASSWORD"),
        ({"requests_per_minute": -1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(fields, words):
    with pytest.raises(ValidationError, match=words):
        GatewaySettings(model_name="m", **{"auth": "required", **fields})
