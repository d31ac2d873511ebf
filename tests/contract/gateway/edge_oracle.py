"""The published JSON schema of the protocol as a judge of every frame the gateway sends.

The schema comes from npm (`@openclaw/gateway-protocol`) into a cache outside the repository, once per version.
"""

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import jsonschema_rs

PACKAGE = "@openclaw/gateway-protocol"
VERSION = "2026.9.1"

EVENT_SCHEMAS = {"chat": "ChatEvent", "agent": "AgentEvent", "tick": "TickEvent", "shutdown": "ShutdownEvent"}
RESULT_SCHEMAS = {
    "connect": "HelloOk",
    "agents.list": "AgentsListResult",
    "agent.identity.get": "AgentIdentityResult",
    "models.list": "ModelsListResult",
    "commands.list": "CommandsListResult",
    "question.list": "QuestionListResult",
    "taskSuggestions.list": "TaskSuggestionsListResult",
    "sessions.create": "SessionsCreateResult",
    "sessions.resolve": "SessionsResolveResult",
    "sessions.delete": "SessionsDeleteResult",
    "sessions.groups.list": "SessionsGroupsListResult",
}
# The reference gateway sends these beside what its schema lists for agent events, and clients read them.
AGENT_EXTRAS = ("sessionKey", "sessionId", "agentId")


def cache_dir():
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mobot-tests" / f"gateway-protocol-{VERSION}"


@cache
def load_schema():
    path = cache_dir() / "node_modules" / PACKAGE / "protocol.schema.json"
    if not path.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError(
                f"the protocol's schema is not at {path}, and npm, which would fetch it, is not installed"
            )
        cache_dir().mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--prefix", str(cache_dir()), "--ignore-scripts", "--no-audit", "--no-fund",
                   "--no-save", f"{PACKAGE}@{VERSION}"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        if done.returncode or not path.exists():
            raise RuntimeError(f"npm could not fetch {PACKAGE}@{VERSION}: {done.stderr[-500:]}")
    return json.loads(path.read_text())


@cache
def validator(definition):
    schema = load_schema()
    return jsonschema_rs.validator_for(
        {"$schema": schema["$schema"], "definitions": schema["definitions"], "$ref": f"#/definitions/{definition}"}
    )


def check_frames(frames, methods):
    """Raises for the first frame that the schema does not allow. `methods` maps request ids to methods."""
    for frame in frames:
        _check("GatewayFrame", frame, frame)
        if frame["type"] == "event":
            _check_event(frame)
        elif frame["ok"]:
            _check_result(methods.get(frame["id"], ""), frame)
        else:
            _check("ErrorShape", frame["error"], frame)


def _check_event(frame):
    payload = frame["payload"]
    definition = EVENT_SCHEMAS.get(frame["event"])
    if definition == "AgentEvent":
        payload = {key: value for key, value in payload.items() if key not in AGENT_EXTRAS}
    if definition:
        _check(definition, payload, frame)
    if frame["event"] in ("sessions.changed", "session.message") and "session" in payload:
        _check("SessionRow", payload["session"], frame)
    if frame["event"] == "presence":
        for entry in payload["presence"]:
            _check("PresenceEntry", entry, frame)


def _check_result(method, frame):
    payload = frame["payload"]
    if method in RESULT_SCHEMAS:
        _check(RESULT_SCHEMAS[method], payload, frame)
    rows = payload.get("sessions", []) if method == "sessions.list" else []
    if method == "sessions.describe" and payload["session"]:
        rows = [payload["session"]]
    for row in rows:
        _check("SessionRow", row, frame)
    if method in ("chat.history", "chat.startup") and "kind" in payload:
        _check("ChatHistoryCursorResult", payload, frame)
    if method == "system-presence":
        for entry in payload:
            _check("PresenceEntry", entry, frame)


def _check(definition, instance, frame):
    for error in validator(definition).iter_errors(instance):
        where = "/".join(str(step) for step in error.instance_path)
        raise AssertionError(f"not a {definition}: at /{where}: {error.message}\n{json.dumps(frame)[:2000]}")
