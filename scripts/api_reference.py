"""The reference of the gRPC contracts, docs/api/: every call, message and enum with the comments of the protos."""

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from grpc_tools import protoc

INDEX = """# The gRPC contracts

| service | for |
| --- | --- |
| [registry](registry.md) | which bots there are, and the workers that serve them |
| [session](session.md) | sessions and their event logs |
| [memory](memory.md) | what a bot remembers |
| [router](router.md) | mail, runs, the workers' streams |

Every call carries the metadata `authorization: Bearer <token>`. An error is a status with a `google.rpc.ErrorInfo`,
whose `reason` is one of the service's `ErrorReason`, without the prefix. These pages are made from `protos/`
by `make docs`.
"""
DOMAINS = ("registry", "session", "memory", "router")

# Field numbers in descriptor.proto, of which the paths of comments are made.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS, _VALUES, _METHODS = 2, 2, 2

Comments = Mapping[tuple[int, ...], str]


def write_reference(protos: Path) -> dict[str, str]:
    """Each page by its file name, README.md first."""
    files = _read(protos)
    pages = {"README.md": INDEX}
    for domain in DOMAINS:
        own = [file for file in files if file.package == f"mobot.{domain}.v1"]
        # The service first: whoever reads comes for the calls.
        own.sort(key=lambda file: (not file.service, file.name))
        sections = "\n".join(line for file in own for line in _file(file))
        pages[f"{domain}.md"] = (
            f"# mobot.{domain}.v1\n\nMade from `protos/mobot/{domain}/v1/` by `make docs`.\n\n{sections}"
        )
    return pages


def _read(protos: Path) -> list[FileDescriptorProto]:
    names = sorted(str(path.relative_to(protos)) for path in protos.glob("mobot/**/*.proto"))
    include = Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "set"
        arguments = ["protoc", f"-I{protos}", f"-I{include}", "--include_source_info", f"--descriptor_set_out={out}"]
        if protoc.main([*arguments, *names]) != 0:
            raise SystemExit("protoc failed; its message stands above")
        return list(FileDescriptorSet.FromString(out.read_bytes()).file)


def _file(file: FileDescriptorProto) -> Iterator[str]:
    comments = {tuple(each.path): each.leading_comments for each in file.source_code_info.location}
    for number, service in enumerate(file.service):
        yield from (f"## {service.name}", "", _text(comments, (_SERVICES, number)), "")
        for place, method in enumerate(service.method):
            yield from _method(method, _text(comments, (_SERVICES, number, _METHODS, place)))
    for number, message in enumerate(file.message_type):
        yield from _message(message, comments, (_MESSAGES, number))
    for number, enum in enumerate(file.enum_type):
        yield from _enum(enum, comments, (_ENUMS, number))


def _method(method: MethodDescriptorProto, text: str) -> Iterator[str]:
    asked = f"{'stream ' if method.client_streaming else ''}{_short(method.input_type)}"
    answered = f"{'stream ' if method.server_streaming else ''}{_short(method.output_type)}"
    yield from (f"### {method.name}", "", f"`{asked}` → `{answered}`", "", text, "")


def _message(message: DescriptorProto, comments: Comments, path: tuple[int, ...]) -> Iterator[str]:
    yield from (f"### {message.name}", "", _text(comments, path), "")
    if message.field:
        yield from ("| field | type | meaning |", "| --- | --- | --- |")
        for place, field in enumerate(message.field):
            yield f"| `{field.name}` | {_type(field, message)} | {_cell(_text(comments, (*path, _FIELDS, place)))} |"
        yield ""


def _enum(enum: EnumDescriptorProto, comments: Comments, path: tuple[int, ...]) -> Iterator[str]:
    yield from (
        f"### {enum.name}",
        "",
        _text(comments, path),
        "",
        "| value | number | meaning |",
        "| --- | --- | --- |",
    )
    for place, value in enumerate(enum.value):
        yield f"| `{value.name}` | {value.number} | {_cell(_text(comments, (*path, _VALUES, place)))} |"
    yield ""


def _type(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    entry = entries.get(_short(field.type_name))
    if entry is not None:
        key, value = (_plain(each) for each in entry.field)
        return f"map of {key} to {value}"
    plain = _plain(field)
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {plain}"
    if field.HasField("oneof_index") and not field.proto3_optional:
        return f"{plain}, one of `{message.oneof_decl[field.oneof_index].name}`"
    return plain


def _plain(field: FieldDescriptorProto) -> str:
    if field.type_name:
        return f"`{_short(field.type_name)}`"
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _text(comments: Comments, path: tuple[int, ...]) -> str:
    words = " ".join(comments.get(path, "").split())
    spans = words.split("`")  # every second one is code
    spans[::2] = [re.sub(r"([][*<])", r"\\\1", span) for span in spans[::2]]  # Markdown would take them for its own
    return "`".join(spans)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
