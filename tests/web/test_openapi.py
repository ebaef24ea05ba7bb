"""Requests drawn from the OpenAPI description, and from beyond it, against the whole API."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from studio import make_studio, visitor

from heedful.store import people

PERMISSIONS = ("enter", "label", "view", "review", "manage")
METHODS = ("get", "post", "put", "delete")
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "\0", "\ud800", "é" * 300, "' or 1=1 --", "../..", "<script>", "new"]),
)
NUMBERS = st.one_of(
    st.integers(-5, 20), st.sampled_from([10**30, -(2**63), 2**31]), st.floats(allow_nan=False)
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def values(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """What a JSON Schema of ours describes, and now and then something else."""
    return st.integers(0, 9).flatmap(lambda n: ANYTHING if n == 0 else described(schema, parts))


def described(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    match schema:
        case {"$ref": str(name)}:
            return described(parts[name.rpartition("/")[2]], parts)
        case {"enum": list(choices)}:
            return st.sampled_from(choices)
        case {"const": one}:
            return st.just(one)
        case {"anyOf": list(choices)}:
            return st.one_of([values(one, parts) for one in choices])
        case {"type": "object", "properties": dict(named)}:
            needed = set(schema.get("required", ()))
            drawn = {name: values(one, parts) for name, one in named.items()}
            return st.fixed_dictionaries(
                {name: one for name, one in drawn.items() if name in needed},
                optional={name: one for name, one in drawn.items() if name not in needed},
            )
        case {"type": "array", "items": one}:
            low = schema.get("minItems", 0)
            return st.lists(values(one, parts), min_size=low, max_size=low + 2)
        case {"type": "string", "pattern": str(pattern)}:
            return st.from_regex(pattern, fullmatch=True)
        case {"type": "string"}:
            most = min(schema.get("maxLength", 20), 20)
            return st.text(min_size=schema.get("minLength", 0), max_size=most)
        case {"type": "integer"}:
            return st.integers(int(schema.get("minimum", -9)), int(schema.get("maximum", 9)))
        case {"type": "number"}:
            return st.floats(allow_nan=False, allow_infinity=False)
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "null"}:
            return st.none()
        case {"type": "object"}:
            return st.dictionaries(TEXTS, ANYTHING, max_size=3)
    raise AssertionError(schema)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory):
    path: Path = tmp_path_factory.mktemp("described")
    store, client = make_studio(path)
    with store:
        visitor(store, client, "ada", "owner")
        client.cookies.clear()
        with store.write() as tx:
            people.grant(tx, "hk_owner", "key", "usr_ada", valid=None, scopes=PERMISSIONS)
        client.headers["authorization"] = "Bearer hk_owner"
        yield TestClient(client.app, headers=client.headers, raise_server_exceptions=False)


def test_no_request_breaks_a_route_and_every_error_has_the_one_shape(api: TestClient) -> None:
    description = api.get("/api/openapi.json").json()
    parts = description["components"]["schemas"]
    operations = [
        (method, path, one)
        for (path, methods), method in itertools.product(description["paths"].items(), METHODS)
        if (one := methods.get(method))
    ]
    leased = api.post("/api/projects/support/lease", json={"count": 3}).json()["items"]
    known = {"project": ["support"], "task": [one["task"] for one in leased], "person": ["usr_ada"]}
    assert len(operations) >= 20
    found = {
        (method, path): statuses(api, method, path, operation, parts, known)
        for method, path, operation in operations
    }
    # drawn well enough to be taken by most of them
    taken = {name for name, seen in found.items() if seen & {200, 201}}
    assert len(taken) >= 15, set(found) - taken


def statuses(
    api: TestClient,
    method: str,
    path: str,
    operation: Mapping[str, Any],
    parts: Mapping[str, Any],
    known: Mapping[str, list[str]],
) -> set[int]:
    """What an operation answers to requests that are drawn, all of it ours."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    bodies = values(content["schema"], parts) if content else st.none()
    seen: set[int] = set()

    @settings(
        max_examples=25,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def every_answer_is_ours(data: st.DataObject) -> None:
        address, query = path, {}
        for one in operation.get("parameters", ()):
            if one["in"] == "path":
                real = st.sampled_from(known.get(one["name"], ["none"]))
                value = data.draw(st.one_of(real, real, TEXTS.filter(bool)))
                shown = quote(value.encode("utf-8", "replace"), safe="")
                address = address.replace("{" + one["name"] + "}", shown)
            else:
                drawn = str(data.draw(values(one["schema"], parts)))
                query[one["name"]] = drawn.encode("utf-8", "replace").decode()
        body = json.dumps(data.draw(bodies))
        kind = {"content-type": "application/json"}
        answer = api.request(method, address, params=query, content=body, headers=kind)
        seen.add(answer.status_code)
        assert answer.status_code < 500, (method, address, body, answer.text)
        if answer.status_code >= 400:
            error = answer.json()["error"]
            assert sorted(error) == ["code", "message"]
            assert error["message"]

    every_answer_is_ours()
    return seen
