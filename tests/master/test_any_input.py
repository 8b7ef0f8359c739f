"""Whatever comes in, an answer goes out, and it is never the master's own failure."""

import json
import urllib.parse
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .serving import MasterProcess

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = ("name", "entrypoint", "launcher", "resources", "placement", "environment", "secrets", "context", "priority",
        "restarts", "max_runtime", "start_timeout", "stop_after", "grace", "kind", "colocate", "else")  # fmt: skip
specs = st.dictionaries(st.sampled_from(KEYS), values, max_size=6)
likely = st.fixed_dictionaries(
    {"entrypoint": st.just("true")},
    optional={
        "resources": st.dictionaries(
            st.sampled_from(("nodes", "slots", "pool", "min_nodes", "labels", "x")), values, max_size=3
        ),
        "environment": st.dictionaries(st.text(max_size=8), scalars, max_size=3),
        "secrets": st.dictionaries(st.text(max_size=8), scalars, max_size=2),
        "max_runtime": scalars,
        "priority": scalars,
    },
)

#: What a header may hold (RFC 9110, section 5.5); with anything else the server answers before the master is asked.
visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), min_size=1)

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def client(master: MasterProcess) -> Any:
    with master.client() as client:
        yield client


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.is_error:
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(answer.json()) >= {"code", "detail", "status", "title", "hint"}


@SETTINGS
@given(specs | likely)
def test_any_spec(client: httpx.Client, spec: dict[str, Any]) -> None:
    for path in ("/api/v1/jobs", "/api/v1/jobs/plan"):
        check(client.post(path, content=json.dumps({"spec": spec})))


@SETTINGS
@given(st.sampled_from(("jobs", "jobs/plan", "tokens", "master/stop?x")), values | st.binary(max_size=50))
def test_any_body(client: httpx.Client, path: str, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    if path.startswith("master/stop"):
        # An empty body would stop it, and rightly.
        content = b'{"for": ' + content + b', "x": 1}'
    check(client.post(f"/api/v1/{path}", content=content))


@SETTINGS
@given(
    st.sampled_from(
        ("jobs", "agents", "pools", "tokens", "jobs/{}", "jobs/{}/logs", "jobs/{}/events", "agents/{}", "contexts/{}")
    ),
    st.text(max_size=12),
    st.dictionaries(
        st.sampled_from(("limit", "cursor", "state", "owner", "tail", "member", "attempt", "timeout")),
        st.text(max_size=12),
    ),
)
def test_any_path_and_query(client: httpx.Client, path: str, name: str, query: dict[str, str]) -> None:
    segment = urllib.parse.quote(name, safe="") or "-"
    check(client.get(f"/api/v1/{path.format(segment)}", params=query))


@SETTINGS
@given(st.sampled_from(("Bearer", "Basic", "")), visible)
def test_any_credential(client: httpx.Client, scheme: str, credential: str) -> None:
    header = f"{scheme} {credential}".strip().encode("latin-1")
    answer = client.get("/api/v1/jobs", headers=[(b"Authorization", header)])
    assert answer.status_code in (401, 429), answer.text
