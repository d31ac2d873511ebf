"""A small /v1/chat/completions over a real socket: it streams what a test scripted, and keeps what it was asked."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """One scripted answer. `status` other than 200 answers with an error body instead."""

    words: list[str] = field(default_factory=list)
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    status: int = 200
    error: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    hold: asyncio.Event | None = None
    """Waited for after the first word."""
    cut: bool = False
    """Closes the connection in the middle."""


class ModelEndpoint:
    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def base_url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        request_line, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.keys.append(headers.get("authorization", ""))
        self.requests.append({"path": request_line.split()[1], **json.loads(body)})
        answer = self.answers.pop(0)
        if answer.status != 200:
            return await self._refuse(writer, answer)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for number, word in enumerate(answer.words):
            self._event(writer, {"content": word})
            await writer.drain()
            if not number and answer.hold is not None:
                await answer.hold.wait()
            if not number and answer.cut:
                writer.transport.abort()
                return False
        for index, (call_id, tool, arguments) in enumerate(answer.calls):
            function = {"name": tool, "arguments": json.dumps(arguments)}
            self._event(
                writer,
                {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]},
            )
        self._event(writer, {}, finish="tool_calls" if answer.calls else "stop")
        self._event(writer, None, usage={"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18})
        writer.write(b"data: [DONE]\n\n")
        await writer.drain()
        return False

    async def _refuse(self, writer: asyncio.StreamWriter, answer: Answer) -> bool:
        body = json.dumps({"error": {"message": answer.error, "type": "error", "code": None}}).encode()
        extra = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        writer.write(
            f"HTTP/1.1 {answer.status} X\r\ncontent-type: application/json\r\n{extra}"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        return True

    def _event(
        self,
        writer: asyncio.StreamWriter,
        delta: dict[str, Any] | None,
        *,
        finish: str | None = None,
        usage: dict[str, int] | None = None,
    ) -> None:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        chunk = {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "fake",
            "choices": choices,
            "usage": usage,
        }
        writer.write(f"data: {json.dumps(chunk)}\n\n".encode())
