"""Writes the generated parts of docs/api.md: from the OpenAPI document and from the proto.

    python scripts/api_document.py

What stands between `<!-- generated: NAME -->` and `<!-- end -->` is replaced, the rest is kept.
"""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

from gateway.app import Probes, create_app
from gateway.edge import Edge
from qzoom.telemetry.logs import EventLog

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "api.md"
PROTO = "qzoom.proto"
Json = dict[str, Any]
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
}


def openapi() -> Json:
    """Build the document that GET /openapi.json gives."""

    async def unused(*_args: object) -> NoReturn:
        raise AssertionError

    nobody_answers: Any = None
    edge = Edge(nobody_answers, ("any",), EventLog("gateway"))
    probes = Probes(**dict.fromkeys(Probes.__dataclass_fields__, unused))
    return create_app(edge, probes, behind_serve=False).openapi()


def rest_table(document: Json) -> str:
    """List the operations."""
    rows = ["| request | what it does |", "|---|---|"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            queries = [
                f"{parameter['name']}={parameter['schema'].get('default', '')}"
                for parameter in operation.get("parameters", ())
                if parameter["in"] == "query"
            ]
            shown = f"{path}?{'&'.join(queries)}" if queries else path
            rows.append(f"| `{method.upper()} {shown}` | {_line(operation['description'])} |")
    return "\n".join(rows)


def request_table(document: Json) -> str:
    """List every field of the body with its type and range."""
    schemas = document["components"]["schemas"]
    rows = ["| field | type | range |", "|---|---|---|"]
    for path, schema in _fields(schemas["RequestBody"], schemas, ""):
        kinds, limits = _kinds(schema, schemas), _limits(schema)
        rows.append(f"| `{path}` | {', '.join(kinds)} | {', '.join(limits)} |")
    return "\n".join(rows)


def _fields(schema: Json, schemas: Json, prefix: str) -> Iterator[tuple[str, Json]]:
    for name, child in schema["properties"].items():
        path = f"{prefix}{name}"
        yield path, child
        for variant in _variants(child, schemas):
            inner = variant
            if variant.get("type") == "array":
                path = f"{path}[]"
                inner = next(_variants(variant.get("items", {}), schemas), {})
            if "properties" in inner:
                yield from _fields(inner, schemas, f"{path}.")


def _variants(schema: Json, schemas: Json) -> Iterator[Json]:
    """Give the alternatives of a schema, references resolved, null left out."""
    if "$ref" in schema:
        yield from _variants(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    elif "anyOf" in schema:
        for variant in schema["anyOf"]:
            yield from _variants(variant, schemas)
    elif schema.get("type") != "null":
        yield schema


def _kinds(schema: Json, schemas: Json) -> list[str]:
    kinds = []
    for variant in _variants(schema, schemas):
        if "enum" in variant:
            kinds.append(" or ".join(f"`{value}`" for value in variant["enum"]))
        elif "const" in variant:
            kinds.append(f"`{variant['const']}`")
        elif variant.get("type") == "array":
            inner = _kinds(variant.get("items", {}), schemas)
            kinds.append(f"list of {' or '.join(inner)}s")
        else:
            kinds.append(str(variant.get("type", "any")))
    return kinds


def _limits(schema: Json) -> list[str]:
    own = [schema, *schema.get("anyOf", ())]
    said = [
        words.format(part[key]) for part in own for key, words in _LIMITS.items() if key in part
    ]
    return [*said, _line(schema["description"])] if "description" in schema else said


def proto_file() -> FileDescriptorProto:
    """Parse the proto, comments included."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "set"
        arguments = [
            "protoc",
            f"-I{ROOT / 'proto'}",
            "--include_source_info",
            f"--descriptor_set_out={target}",
            PROTO,
        ]
        assert protoc.main(arguments) == 0, "the proto cannot be parsed"
        parsed = FileDescriptorSet.FromString(target.read_bytes())
    return next(file for file in parsed.file if file.name == PROTO)


def rpc_section(file: FileDescriptorProto) -> str:
    """Describe methods, messages and enums with the comments of the proto."""
    comments = {
        tuple(place.path): _line(place.leading_comments)
        for place in file.source_code_info.location
        if place.leading_comments
    }
    parts = []
    for i, service in enumerate(file.service):
        rows = [f"**Service `{file.package}.{service.name}`**\n", "| method | |", "|---|---|"]
        for j, method in enumerate(service.method):
            request = _streamed(method.input_type, is_stream=method.client_streaming)
            reply = _streamed(method.output_type, is_stream=method.server_streaming)
            said = comments.get((6, i, 2, j), "")
            rows.append(f"| `{method.name}({request}) -> {reply}` | {said} |")
        parts.append("\n".join(rows))
    for i, message in enumerate(file.message_type):
        parts.append(_message(message, (4, i), comments))
    for i, enum in enumerate(file.enum_type):
        parts.append(_enum(enum, (5, i), comments))
    return "\n\n".join(parts)


def _message(message: DescriptorProto, at: tuple[int, ...], comments: dict[Any, str]) -> str:
    entries = {f".qzoom.v1.{message.name}.{nested.name}": nested for nested in message.nested_type}
    rows = [
        f"**`{message.name}`**: {comments.get(at, '')}\n",
        "| field | type | |",
        "|---|---|---|",
    ]
    for i, field in enumerate(message.field):
        said = comments.get((*at, 2, i), "")
        rows.append(f"| `{field.name}` = {field.number} | {_type(field, entries)} | {said} |")
    return "\n".join(rows)


def _enum(enum: EnumDescriptorProto, at: tuple[int, ...], comments: dict[Any, str]) -> str:
    rows = [f"**`{enum.name}`**: {comments.get(at, '')}\n", "| value | |", "|---|---|"]
    for i, value in enumerate(enum.value):
        rows.append(f"| `{value.name}` = {value.number} | {comments.get((*at, 2, i), '')} |")
    return "\n".join(rows)


def _type(field: FieldDescriptorProto, entries: dict[str, DescriptorProto]) -> str:
    if field.type_name in entries:
        key, value = (_type(part, {}) for part in entries[field.type_name].field)
        return f"map of {key} to {value}"
    name = field.type_name.rpartition(".")[2]
    if not name:
        name = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    if field.proto3_optional:
        return f"optional {name}"
    return f"one of: {name}" if field.HasField("oneof_index") else name


def _streamed(type_name: str, *, is_stream: bool) -> str:
    name = type_name.rpartition(".")[2]
    return f"stream {name}" if is_stream else name


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").removesuffix(".")


def write(text: str) -> str:
    """Replace the generated parts of the document.

    Args:
        text: The document as it is.

    Returns:
        The document as it should be.
    """
    document = openapi()
    parts = {
        "operations": rest_table(document),
        "fields": request_table(document),
        "messages": rpc_section(proto_file()),
    }
    for name, part in parts.items():
        pattern = rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)"
        text, found = re.subn(
            pattern, lambda m, part=part: f"{m[1]}{part}\n{m[2]}", text, flags=re.DOTALL
        )
        assert found == 1, f"docs/api.md has {found} parts named {name}"
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(write(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
