"""sessions_send, sessions_spawn, sessions_yield, agents_list: a bot writes to other sessions and has children work."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bot_runner.tools.tool import Call, Params, Tool
from bot_sdk.model import Receipt, RunResult, SpawnWish
from bot_sdk.steps import Json
from chassis import errors, resource_names

_MESSAGE_CHARS = 50_000
_MODES = {"followup": "enqueue", "steer": "steer", "interrupt": "interrupt", "collect": "collect"}
_MAX_TIMEOUT_S = 366 * 24 * 3600


class SessionsSendParams(Params):
    session_key: Annotated[str, Field(max_length=600)] = Field("", description="Where to: agent:bot:session.")
    label: Annotated[str, Field(max_length=512)] = Field("", description="Or: the label of a session of your own.")
    agent_id: Annotated[str, Field(max_length=64)] = Field("", description="Or: a bot; its main session gets it.")
    message: Annotated[str, Field(min_length=1, max_length=_MESSAGE_CHARS)] = Field(description="What to say.")
    timeout_seconds: float = Field(
        0, ge=0, le=600, description="How long to wait for the reply; 0 sends and does not wait."
    )
    want_reply: bool = Field(
        False, description="With timeoutSeconds 0: have the reply sent to this session as a message when there is one."
    )
    mode: Literal["followup", "steer", "interrupt", "collect"] = Field(
        "followup",
        description="If the session is busy: wait (followup), go into its running turn (steer), stop that turn "
        "(interrupt), or be answered together with what else waits (collect).",
    )

    @model_validator(mode="after")
    def _one_destination(self) -> "SessionsSendParams":
        if sum(map(bool, (self.session_key, self.label, self.agent_id))) != 1:
            raise ValueError("give exactly one of sessionKey, label and agentId")
        return self


async def sessions_send(call: Call, params: SessionsSendParams) -> Json:
    turn = call.turn
    to = await _destination(call, params)
    if params.timeout_seconds:
        if to == turn.session:
            raise errors.InvalidArgument(
                "a session cannot wait for itself; send with timeoutSeconds 0", reason="SELF_ASK"
            )
        return await _ask(call, params, to)
    receipt = await turn.mail.send(
        to,
        params.message,
        # The same in every attempt: a repeated run gets the receipt of the message that was sent.
        idempotency_key=call.key,
        source=turn.session,
        reply_to=turn.session if params.want_reply else "",
        hop_count=turn.message.hop_count + 1,
        mode=_MODES[params.mode],
    )
    return {"status": "accepted", **_sent(receipt, params.mode), "replied": False}


async def _ask(call: Call, params: SessionsSendParams, to: str) -> Json:
    turn = call.turn
    answered = await turn.mail.ask(
        to,
        params.message,
        idempotency_key=call.key,
        timeout_s=params.timeout_seconds,
        source=turn.session,
        hop_count=turn.message.hop_count + 1,
        mode=_MODES[params.mode],
    )
    result = answered.result
    answer: dict[str, Json] = {
        "delivered": True,
        "replied": False,
        "runId": result.run,
        "sessionKey": resource_names.parse_session(result.session).key,
    }
    if answered.receipt is not None:
        answer.update(_sent(answered.receipt, params.mode))
    return {**answer, **_outcome(result)}


class SessionsSpawnParams(Params):
    task: Annotated[str, Field(min_length=1, max_length=_MESSAGE_CHARS)] = Field(
        description="What the child is to do, with everything it needs to know."
    )
    session_key: Annotated[str, Field(max_length=256)] = Field(
        "", description="The child's own key within its bot, such as thread:budget-planning; generated when empty."
    )
    agent_id: Annotated[str, Field(max_length=64)] = Field("", description="The bot that does it; default: you.")
    label: Annotated[str, Field(max_length=512)] = Field("", description="A short name for people.")
    description: Annotated[str, Field(max_length=4_096)] = Field("", description="What the child is for.")
    group: Annotated[str, Field(max_length=128)] = Field("", description="The group it is shown in.")
    model: Annotated[str, Field(max_length=256)] = Field("", description="The model it uses, provider/model.")
    thinking: Annotated[str, Field(max_length=32)] = Field("", description="How hard it thinks: low, medium, high.")
    persistent: bool = Field(False, description="Protect its context: it refuses every reset. Needs a label.")
    if_exists: Literal["fail", "use", "replace"] = Field(
        "fail",
        description="If there is a session with this key: refuse (fail), give it the task (use), or begin it anew "
        "(replace; a persistent one refuses).",
    )
    context: Literal["isolated", "fork"] = Field(
        "isolated", description="isolated: it knows the task alone. fork: it knows what was said here as well."
    )
    cleanup: Literal["keep", "archive", "delete"] = Field(
        "keep", description="What becomes of the child when its task is done."
    )
    run_timeout_seconds: float = Field(
        0, ge=0, le=_MAX_TIMEOUT_S, description="Give the task up after so many seconds; 0 for never."
    )
    announce: bool = Field(True, description="Have the result sent to this session as a message, whatever it is.")


async def sessions_spawn(call: Call, params: SessionsSpawnParams) -> Json:
    turn = call.turn
    spawned = await turn.mail.spawn(
        SpawnWish(
            parent=turn.session,
            task=params.task,
            bot=resource_names.bot_name(params.agent_id) if params.agent_id else "",
            session_id=params.session_key,
            label=params.label,
            description=params.description,
            group=params.group,
            model=params.model,
            persistent=params.persistent,
            overrides={"thinking": params.thinking} if params.thinking else {},
            if_exists=params.if_exists,
            forked=params.context == "fork",
            cleanup=params.cleanup,
            timeout_s=params.run_timeout_seconds or None,
            announce=params.announce,
        ),
        request_id=call.key,
    )
    return {
        "status": "accepted",
        "runId": spawned.receipt.run,
        "childSessionKey": resource_names.parse_session(spawned.receipt.session).key,
        "created": spawned.created,
        "note": "its result comes as a message to this session" if params.announce else "its result is not announced",
    }


class SessionsYieldParams(Params):
    message: Annotated[str, Field(max_length=_MESSAGE_CHARS)] = Field(
        "", description="What to say before you pause; nothing when empty."
    )


async def sessions_yield(_: Call, params: SessionsYieldParams) -> Json:
    return {"status": "yielded", "message": params.message}


class AgentsListParams(Params):
    search: Annotated[str, Field(max_length=256)] = Field("", description="Text within id, name or description.")


async def agents_list(call: Call, params: AgentsListParams) -> Json:
    wanted = params.search.casefold()
    agents: list[Json] = [
        {
            "id": bot.profile.id,
            "name": bot.profile.title,
            "description": bot.profile.description,
            "state": bot.state.lower(),
            "enabled": bot.enabled,
        }
        for bot in await call.turn.bots.list()
        if wanted in f"{bot.profile.id} {bot.profile.title} {bot.profile.description}".casefold()
    ]
    return {"requester": call.turn.bot.id, "agents": agents}


SESSIONS_SEND = Tool(
    "sessions_send",
    "Sends a message to another session or bot. It is durable once this returns. With timeoutSeconds 0 nobody has read "
    "it yet (status accepted); otherwise waits for the reply (status ok) and says so when none came in time (status "
    "timeout: the message was delivered all the same, do not send it again; a late reply comes as a message).",
    SessionsSendParams,
    sessions_send,
)
SESSIONS_SPAWN = Tool(
    "sessions_spawn",
    "Makes a child session that works on a task of its own, and does not wait for it (status accepted). The result "
    "comes to this session as a message, once, also if the child fails.",
    SessionsSpawnParams,
    sessions_spawn,
)
SESSIONS_YIELD = Tool(
    "sessions_yield",
    "Ends this turn now, to go on when a message comes: the result of a child, or a reply you asked for.",
    SessionsYieldParams,
    sessions_yield,
    ends_turn=True,
)
AGENTS_LIST = Tool(
    "agents_list",
    "Lists the bots there are, with what they are for: whom sessions_send and sessions_spawn may name.",
    AgentsListParams,
    agents_list,
)


async def _destination(call: Call, params: SessionsSendParams) -> str:
    if params.agent_id:
        return resource_names.bot_name(params.agent_id)
    if params.label:
        return (await call.turn.sessions.resolve(params.label)).name
    if params.session_key.startswith("agent:"):
        return resource_names.parse_session_key(params.session_key, field="sessionKey").name
    if "/" in params.session_key:
        return resource_names.parse_session(params.session_key, field="sessionKey").name
    return resource_names.session_name(call.turn.bot.id, params.session_key)


def _sent(receipt: Receipt, mode: str) -> dict[str, Json]:
    return {
        "delivered": True,
        "runId": receipt.run,
        "messageId": receipt.message,
        "sessionKey": resource_names.parse_session(receipt.session).key,
        "queuePosition": receipt.queue_position,
        "targetDisposition": "steered" if mode == "steer" and receipt.queue_position else "queued",
    }


def _outcome(result: RunResult) -> dict[str, Json]:
    if not result.done:
        return {
            "status": "timeout",
            "hint": "delivered and still being worked on; do not send it again: a late reply comes as a message",
        }
    if result.succeeded and result.reply:
        return {"status": "ok", "replied": True, "reply": result.reply}
    if result.succeeded:
        return {"status": "no_reply"}
    return {
        "status": "error",
        "state": result.state,
        "reason": result.error_reason,
        "error": result.error_message or f"the run ended as {result.state}",
    }
