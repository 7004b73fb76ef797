"""The examples of docs/serve.md against a running server, its tables and OpenAPI against the code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

import jsonschema

from benchmarks.serve import compare
from resnest_zoo.cli import _parser
from resnest_zoo.serve import bodies, limits, metrics
from resnest_zoo.serve.app import Service, build_app
from resnest_zoo.serve.limits import Limits
from resnest_zoo.serve.models import Models
from resnest_zoo.serve.openapi import describe_api
from tests.serve.running import NAME, StubPredictor, picture, running
from tests.test_pages import ROOT, blocks

PAGE = "docs/serve.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("shapes.png", "more.png"):
        (tmp_path / name).write_bytes(picture())
    return tmp_path


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_the_page(folder: Path) -> None:
    (block,) = blocks(PAGE, "sh")
    with running() as client:
        commands = block.text.replace("http://127.0.0.1:8000", client.url).splitlines()
        answers = [
            subprocess.run(["sh", "-c", command], check=True, capture_output=True, timeout=20).stdout
            for command in commands
        ]
    one, two, _, health = (json.loads(answer or "null") for answer in answers)
    assert len(one["predictions"][0]["predictions"]) == 1
    assert len(two["predictions"]) == 2
    assert len(json.loads((folder / "found.json").read_text())["annotations"]) == 2
    assert health["status"] == "ok"


def test_the_python_of_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks(PAGE, "python")
    with running() as client:
        exec(block.text.replace("http://127.0.0.1:8000", client.url), {})
    assert capsys.readouterr().out.startswith("ball 0.89999")


def test_the_limits_of_the_page_are_those_of_the_code() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (.+?) \| ([\d,.]+|4, on the CPU 1) \|", text.split("## Limits")[1], re.M))
    numbers = [
        float(value.replace(",", "")) for value in rows.values() if value[-1].isdigit() and " " not in value
    ]
    default = Limits()
    assert numbers == [
        default.max_bytes,
        default.max_film_bytes,
        default.max_pixels,
        default.max_files,
        default.queue,
        default.window,
        default.timeout,
        bodies.BODY_SECONDS,
        limits.HEAD_SECONDS,
        default.films,
        default.models,
        limits.CONNECTIONS,
    ]
    assert f"{limits.BODY_RATE:,} bytes a second" in text
    assert f"has\n{limits.GRACE} seconds to finish" in text


def test_the_defaults_of_the_command_are_those_of_the_code() -> None:
    args, default = _parser("serve").parse_args(["serve"]), Limits()
    for name in ("max_bytes", "max_film_bytes", "max_pixels", "queue", "batch", "timeout"):
        assert getattr(args, name) == getattr(default, name)
    assert args.max_models == default.models


def test_the_metrics_of_the_page_are_those_of_the_code() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8").split("## Metrics")[1]
    named = {name.removeprefix(metrics.PREFIX) for name in re.findall(r"`(resnest_zoo_\w+)", text)}
    assert named == set(metrics._HELP)


def test_the_benchmark_sees_what_differs() -> None:
    row = {"image_id": 0, "category_id": 3, "bbox": [0.0, 0.0, 2.0, 2.0], "score": 0.5}
    answer = json.dumps({"predictions": [{"predictions": [{**row, "image_id": 4}]}]}).encode()
    assert compare(answer, [row]) is None
    assert "expected 2 rows, got 1" in str(compare(answer, [row, row]))
    assert "0.50001" in str(compare(answer, [{**row, "score": 0.50001}]))


def test_metrics_are_in_the_format() -> None:
    with running() as client:
        client.predict(picture())
        client.get("/nothing")
        answer = client.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    types: dict[str, str] = {}
    for line in answer.text.splitlines():
        if found := re.fullmatch(r"# TYPE (\w+) (counter|gauge|histogram)", line):
            assert found[1] not in types
            types[found[1]] = found[2]
        elif not line.startswith("# HELP "):
            sample = re.fullmatch(
                r'(\w+?)(_bucket|_sum|_count)?(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [\d.e+-]+', line
            )
            assert sample, line
            assert sample[1] in types or sample[1] + (sample[2] or "") in types, line
    assert 'resnest_zoo_requests_total{route="predict",status="200"} 1' in answer.text
    assert 'resnest_zoo_requests_total{route="none",status="404"} 1' in answer.text


def test_the_description_has_every_route_and_answers_are_as_it_says() -> None:
    description = describe_api(Limits())
    service = Service(Models([NAME], lambda _: StubPredictor(), Limits()), Limits())  # type: ignore[arg-type,return-value]
    routes = {route.path for route in build_app(service).routes}  # type: ignore[attr-defined]
    assert routes - {"/", "/models", "/docs", "/static", "/openapi.json"} == set(description["paths"])
    with running() as client:
        assert client.get("/openapi.json").json() == description
        headers = {"Content-Type": "image/png"}
        answers = {
            "Models": client.get("/api/models"),
            "Event": client.post(f"/api/models/{NAME}/load"),
            "Health": client.get("/health"),
            "Answer": client.post("/predict", data=picture(), headers=headers),
            "Error": client.post("/predict", data=b"x", headers=headers),
        }
    for name, answer in answers.items():
        check(answer.json(), name, description)


def check(content: Any, name: str, description: dict[str, Any]) -> None:
    """Against a schema of the description, of which nothing else may be said."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": description["components"]}
    jsonschema.Draft202012Validator.check_schema(description["components"]["schemas"][name])
    jsonschema.validate(content, schema, cls=jsonschema.Draft202012Validator)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, schema, cls=jsonschema.Draft202012Validator)
