"""Brains, both ways."""

from urllib.parse import urlsplit

from google.protobuf.duration_pb2 import Duration

from chassis.errors import field_invalid
from mobot.registry.v1 import bot_pb2
from registry_service.convert import checks
from registry_service.domain.brain import Brain, EchoBrain, OpenaiBrain, OpenclawBrain, WorkerBrain

_HOUR_S = 3_600.0
_MAX_URL = 2_048


def from_proto_brain(field: str, brain: bot_pb2.Brain) -> Brain:
    match brain.WhichOneof("settings"):
        case "echo":
            return EchoBrain(checks.seconds(f"{field}.echo.word_delay", brain.echo, "word_delay", 0, 60))
        case "openai":
            return _openai(f"{field}.openai", brain.openai)
        case "worker":
            return _worker(f"{field}.worker", brain.worker)
        case "openclaw":
            return _openclaw(f"{field}.openclaw", brain.openclaw)
        case _:
            raise field_invalid(field, "must be exactly one of echo, openai, worker, openclaw")


def to_proto_brain(brain: Brain) -> bot_pb2.Brain:
    match brain:
        case EchoBrain():
            return bot_pb2.Brain(echo=bot_pb2.EchoBrain(word_delay=to_proto_seconds(brain.word_delay_s)))
        case OpenaiBrain():
            return bot_pb2.Brain(
                openai=bot_pb2.OpenaiBrain(
                    base_url=brain.base_url,
                    model=brain.model,
                    api_key_env=brain.api_key_env,
                    temperature=brain.temperature,
                    top_p=brain.top_p,
                    max_output_tokens=brain.max_output_tokens,
                    timeout=to_proto_seconds(brain.timeout_s),
                    context_window_tokens=brain.context_window_tokens,
                    max_tool_rounds=brain.max_tool_rounds,
                    reasoning_effort=brain.reasoning_effort,
                    max_retries=brain.max_retries,
                )
            )
        case WorkerBrain():
            worker = bot_pb2.WorkerBrain(model=brain.model, worker_labels=brain.worker_labels)
            if brain.settings is not None:
                worker.settings.SetInParent()
                worker.settings.update(brain.settings)
            return bot_pb2.Brain(worker=worker)
        case OpenclawBrain():
            return bot_pb2.Brain(
                openclaw=bot_pb2.OpenclawBrain(
                    url=brain.url,
                    token_env=brain.token_env,
                    agent_id=brain.agent_id,
                    timeout=to_proto_seconds(brain.timeout_s),
                    model=brain.model,
                )
            )


def to_proto_seconds(value: float | None) -> Duration | None:
    if value is None:
        return None
    duration = Duration()
    duration.FromNanoseconds(round(value * 1e9))
    return duration


def _openai(field: str, brain: bot_pb2.OpenaiBrain) -> OpenaiBrain:
    _url(f"{field}.base_url", brain.base_url, ("http", "https"))
    temperature = top_p = retries = None
    if brain.HasField("temperature"):
        temperature = checks.between(f"{field}.temperature", brain.temperature, 0.0, 2.0)
    if brain.HasField("top_p"):
        top_p = checks.between(f"{field}.top_p", brain.top_p, 0.0, 1.0)
        if not top_p:
            raise field_invalid(f"{field}.top_p", "must be above 0")
    if brain.HasField("max_retries"):
        retries = checks.between(f"{field}.max_retries", brain.max_retries, 0, 10)
    window = brain.context_window_tokens
    return OpenaiBrain(
        base_url=brain.base_url,
        model=checks.text(f"{field}.model", brain.model, 256, minimum=1),
        api_key_env=checks.environment_name(f"{field}.api_key_env", brain.api_key_env),
        temperature=temperature,
        top_p=top_p,
        max_output_tokens=checks.between(f"{field}.max_output_tokens", brain.max_output_tokens, 0, 1_000_000),
        timeout_s=checks.seconds(f"{field}.timeout", brain, "timeout", 1, _HOUR_S),
        context_window_tokens=window and checks.between(f"{field}.context_window_tokens", window, 1_024, 100_000_000),
        max_tool_rounds=checks.between(f"{field}.max_tool_rounds", brain.max_tool_rounds, 0, 1_000),
        reasoning_effort=checks.text(f"{field}.reasoning_effort", brain.reasoning_effort, 32),
        max_retries=retries,
    )


def _worker(field: str, brain: bot_pb2.WorkerBrain) -> WorkerBrain:
    return WorkerBrain(
        model=checks.text(f"{field}.model", brain.model, 256),
        worker_labels=checks.labels(f"{field}.worker_labels", brain.worker_labels, count=16),
        settings=checks.struct(f"{field}.settings", brain, "settings"),
    )


def _openclaw(field: str, brain: bot_pb2.OpenclawBrain) -> OpenclawBrain:
    _url(f"{field}.url", brain.url, ("ws", "wss"))
    return OpenclawBrain(
        url=brain.url,
        token_env=checks.environment_name(f"{field}.token_env", brain.token_env),
        agent_id=checks.text(f"{field}.agent_id", brain.agent_id, 64),
        timeout_s=checks.seconds(f"{field}.timeout", brain, "timeout", 1, _HOUR_S),
        model=checks.text(f"{field}.model", brain.model, 256),
    )


def _url(field: str, value: str, schemes: tuple[str, ...]) -> None:
    """The value is left out of the message: an address that is refused may be refused for the password in it."""
    checks.text(field, value, _MAX_URL, minimum=1)
    allowed = " or ".join(f"{scheme}:" for scheme in schemes)
    try:
        parts = urlsplit(value)
        usable = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise field_invalid(field, f"must be an {allowed} address") from None
    if not usable or not value.isprintable() or " " in value:
        raise field_invalid(field, f"must be an {allowed} address")
    if parts.username is not None or parts.password is not None:
        raise field_invalid(field, "must hold no user name and no password")
