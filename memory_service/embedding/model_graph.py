"""A model's graph, changed where that saves memory: an ONNX file is read and written as what it is, protobuf fields."""

from collections.abc import Iterator, Sequence

_GRAPH = 7  # of a model
_NODE = 1  # of a graph
_INPUT, _OUTPUT, _OPERATION, _ATTRIBUTE = 1, 2, 4, 5  # of a node
_BYTES = 2
_FIXED = {1: 8, 5: 4}
# AttributeProto: name "to", type INT, i = FLOAT.
_TO_FLOAT = b"\n\x02to\x18\x01\xa0\x01\x02"


def widen_after_lookup(model: bytes, table: str) -> bytes:
    """The model, looking a row of `table` up before it makes floats of its 8-bit numbers, and not after.

    The numbers that come out are the same to the bit; the table as floats, four times as large, is never made.

    Raises:
        ValueError: the model does not hold the table in that form.
    """
    return b"".join(
        _field(_GRAPH, _rewritten(content, table)) if number == _GRAPH else whole
        for number, content, whole in _fields(model)
    )


def _rewritten(graph: bytes, table: str) -> bytes:
    parts: list[bytes] = []
    widened: set[str] = set()
    looked_up = False
    for number, content, whole in _fields(graph):
        operation, inputs, outputs = _node(content) if number == _NODE else ("", [], [])
        if operation == "Cast" and inputs == [f"{table}_q"]:
            widened.add(outputs[0])
        elif operation == "Mul" and outputs == [table] and inputs[0] in widened:
            widened.add(table)
        elif operation == "Gather" and inputs[0] == table and table in widened:
            looked_up = True
            parts += _looked_up(table, inputs[1], outputs[0])
        else:
            parts.append(whole)
    if not looked_up:
        raise ValueError(f"the model has no {table} of 8-bit numbers")
    return b"".join(parts)


def _looked_up(table: str, keys: str, output: str) -> list[bytes]:
    row, scale, wide = f"{table}_row", f"{table}_row_scale", f"{table}_row_wide"
    return [
        _made_node("Gather", [f"{table}_q", keys], row),
        _made_node("Gather", [f"{table}_scale", keys], scale),
        _made_node("Cast", [row], wide, _TO_FLOAT),
        _made_node("Mul", [wide, scale], output),
    ]


def _node(node: bytes) -> tuple[str, list[str], list[str]]:
    """Its operation, inputs and outputs."""
    fields = [(number, content) for number, content, _ in _fields(node)]
    operation = next((content.decode() for number, content in fields if number == _OPERATION), "")
    inputs = [content.decode() for number, content in fields if number == _INPUT]
    return operation, inputs, [content.decode() for number, content in fields if number == _OUTPUT]


def _made_node(operation: str, inputs: Sequence[str], output: str, attribute: bytes = b"") -> bytes:
    fields = [_field(_INPUT, each.encode()) for each in inputs]
    fields += [_field(_OUTPUT, output.encode()), _field(_OPERATION, operation.encode())]
    if attribute:
        fields.append(_field(_ATTRIBUTE, attribute))
    return _field(_NODE, b"".join(fields))


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """The number, the content (empty for what is no bytes) and the whole of each field."""
    place = 0
    while place < len(message):
        start = place
        key, place = _varint(message, place)
        content = b""
        match key & 7:
            case 0:
                _, place = _varint(message, place)
            case 2:
                length, place = _varint(message, place)
                content = message[place : place + length]
                place += length
            case wire:
                place += _FIXED[wire]
        yield key >> 3, content, message[start:place]


def _field(number: int, content: bytes) -> bytes:
    return _to_varint(number << 3 | _BYTES) + _to_varint(len(content)) + content


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place


def _to_varint(value: int) -> bytes:
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])
