"""The description of the API for programs, and for the page `/docs` that is made from it."""

from __future__ import annotations

from typing import Any

from resnest_zoo import __version__
from resnest_zoo.serve.limits import Limits

_Schema = dict[str, Any]


def describe_api(limits: Limits) -> _Schema:
    """OpenAPI 3.1, with this server's limits."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "resnest-zoo serve",
            "version": __version__,
            "description": "Detectors by name. All requests stay on this machine. A client that got a token "
            "sends it as `Authorization: Bearer TOKEN`.",
        },
        "paths": {
            "/api/models": {"get": _operation("Every model and its state", _json("Models"))},
            "/api/models/{name}/load": {
                "post": _operation(
                    "Load a model: download, verify, load. It can be asked again at any time",
                    {"202": _content("it is under way, or done", "application/json", _ref("Event"))},
                    parameters=[_NAME],
                    refusals=(404, 429),
                )
            },
            "/api/models/{name}/events": {
                "get": _operation(
                    "The states of a model as server-sent events, until it is ready or failed",
                    {"200": _content("`data:` lines of `Event`", "text/event-stream", {"type": "string"})},
                    parameters=[_NAME],
                    refusals=(404,),
                )
            },
            "/predict": {"post": _predict(limits)},
            "/predict/video": {"post": _predict_video(limits)},
            "/health": {"get": _operation("Whether it can be used", _json("Health"))},
            "/metrics": {
                "get": _operation(
                    "Numbers for monitoring",
                    {"200": _content("in the text format of Prometheus", "text/plain", {"type": "string"})},
                )
            },
        },
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _predict(limits: Limits) -> _Schema:
    binary: _Schema = {"schema": {"type": "string", "format": "binary"}}
    files = {"type": "array", "items": binary["schema"], "maxItems": limits.max_files}
    form = {"type": "object", "properties": {"file": files}, "required": ["file"]}
    return _operation(
        f"What is found in a picture, or in several; up to {limits.max_bytes:,} bytes together, and "
        f"{limits.max_pixels:,} pixels each",
        _json("Answer"),
        parameters=[*_FIND, _query("format", "coco: as a data set", enum=["native", "coco"])],
        body={"image/*": binary, "application/octet-stream": binary, "multipart/form-data": {"schema": form}},
        refusals=(400, 404, 408, 413, 415, 422, 503),
    )


def _predict_video(limits: Limits) -> _Schema:
    binary: _Schema = {"schema": {"type": "string", "format": "binary"}}
    return _operation(
        f"What is found in a film of up to {limits.max_film_bytes:,} bytes, frame after frame",
        {
            "200": _content(
                "a line of JSON for each frame, then one with `done` or `error`",
                "application/x-ndjson",
                _ref("Frame"),
            )
        },
        parameters=[*_FIND, _query("every", "each Nth frame alone", type="integer", minimum=1, default=1)],
        body={"video/*": binary, "application/octet-stream": binary},
        refusals=(400, 404, 408, 413, 415, 422, 503),
    )


def _operation(
    summary: str,
    responses: _Schema,
    *,
    parameters: list[_Schema] | None = None,
    body: _Schema | None = None,
    refusals: tuple[int, ...] = (),
) -> _Schema:
    refused = {
        str(status): _content(_REASONS[status], "application/json", _ref("Error")) for status in refusals
    }
    operation: _Schema = {"summary": summary, "responses": {**responses, **refused}}
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = {"required": True, "content": body}
    return operation


def _content(text: str, kind: str, schema: _Schema) -> _Schema:
    return {"description": text, "content": {kind: {"schema": schema}}}


def _json(name: str) -> _Schema:
    return {"200": _content("found", "application/json", _ref(name))}


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _query(name: str, text: str, **schema: Any) -> _Schema:
    schema.setdefault("type", "string")
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _object(required: dict[str, _Schema], **more: _Schema) -> _Schema:
    return {"type": "object", "properties": {**required, **more}, "required": list(required)}


def _list(items: _Schema) -> _Schema:
    return {"type": "array", "items": items}


_REASONS = {
    400: "a parameter or the body is not well formed",
    404: "no such model, or it is not loaded",
    408: "the body came too slowly",
    413: "too many bytes, pixels or files",
    415: "the Content-Type is none of a picture or film",
    422: "the bytes are no picture or film that can be read",
    429: "as many models are loaded as may be",
    503: "the queue is full, the model is not ready, or the time is over; Retry-After says when to try again",
}
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_FIND = [
    _query("model", "by default the first one served"),
    _query("score_threshold", "weaker ones are left out", type="number", minimum=0, maximum=1, default=0.05),
    _query("masks", "rle: with masks", enum=["rle", "none"], default="rle"),
]
_TEXT, _WHOLE, _NUMBER, _YES = (
    {"type": "string"},
    {"type": "integer"},
    {"type": "number"},
    {"type": "boolean"},
)
_MAYBE_TEXT, _MAYBE_WHOLE, _MAYBE_NUMBER = (
    {"type": ["string", "null"]},
    {"type": ["integer", "null"]},
    {"type": ["number", "null"]},
)
_STATE = {"enum": ["absent", "downloading", "verifying", "loading", "ready", "failed"]}
_AP = _object({"box_ap": _MAYBE_NUMBER, "mask_ap": _MAYBE_NUMBER, "pq": _MAYBE_NUMBER})
_CATEGORIES = _list(_object({"id": _WHOLE, "name": _TEXT}))
_ROW = _object(
    {
        "image_id": _WHOLE,
        "category_id": _WHOLE,
        "bbox": {"type": "array", "items": _NUMBER, "minItems": 4, "maxItems": 4},
        "score": _NUMBER,
    },
    segmentation=_object({"size": _list(_WHOLE), "counts": _TEXT}),
)
_SEGMENT = _object({"id": _WHOLE, "category_id": _WHOLE, "area": _WHOLE, "isthing": {"enum": [0, 1]}})
_PICTURE: dict[str, _Schema] = {"width": _WHOLE, "height": _WHOLE, "predictions": _list(_ROW)}
_PANOPTIC: dict[str, _Schema] = {
    "panoptic": _object({"image_id": _WHOLE, "segments_info": _list(_SEGMENT)}),
    "panoptic_png": {**_TEXT, "description": "base64; pixels are ids of segments: R + 256 G + 65536 B"},
}
_SCHEMAS: _Schema = {
    "Error": _object({"error": _object({"kind": _TEXT, "message": _TEXT})}),
    "Event": _object(
        {"state": _STATE, "done": _MAYBE_WHOLE, "total": _MAYBE_WHOLE, "message": _MAYBE_TEXT}, name=_TEXT
    ),
    "Health": _object({"status": {"enum": ["ok", "starting"]}, "models": _list(_TEXT)}),
    "Models": _object(
        {
            "models": _list(
                _object(
                    {
                        "name": _TEXT,
                        "task": {"enum": ["boxes", "masks", "panoptic"]},
                        "served": _YES,
                        "state": _STATE,
                        "message": _MAYBE_TEXT,
                        "bytes": _MAYBE_WHOLE,
                        "parameters": _MAYBE_WHOLE,
                        "reported": _AP,
                        "seconds": _MAYBE_NUMBER,
                        "packaged": _YES,
                        "cached": _YES,
                        "classes": {"type": ["array", "null"], "items": _TEXT},
                    }
                )
            ),
            "default": _TEXT,
        }
    ),
    "Answer": _object(
        {
            "model": _TEXT,
            "predictions": _list(_object(_PICTURE, **_PANOPTIC)),
            "categories": _CATEGORIES,
            "seconds": _object(dict.fromkeys(("queue", "decode", "model", "total"), _NUMBER)),
            "batch": _WHOLE,
        },
        stuff_categories=_CATEGORIES,
    ),
    "Frame": _object({"index": _WHOLE, "seconds": _NUMBER, **_PICTURE}, **_PANOPTIC),
}
