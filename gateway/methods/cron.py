"""cron.*: the router's schedules as the clients' jobs."""

import re
from collections.abc import Mapping
from typing import Any

import grpc.aio
from google.protobuf import duration_pb2

from chassis.resource_names import parse_session
from gateway import errors, params, scopes
from gateway.dispatch import Call, Method
from gateway.keys import MAIN, agent_of, key_of
from gateway.services import Services
from gateway.shapes import millis
from mobot.router.v1 import message_pb2
from mobot.router.v1 import router_service_pb2 as router_api
from mobot.session.v1 import part_pb2

_PREFIX = "schedules/"
_ID = params.Text(min_length=1, max_length=128)
_ADD_RULES: params.Rules = {
    "name": params.Text(required=True, min_length=1, max_length=200),
    "schedule": params.Group(
        {
            "kind": params.Text(required=True),
            "expr": params.Text(min_length=1),
            "tz": params.Text(nullable=True),
            "everyMs": params.Whole(minimum=1),
        },
        required=True,
    ),
    "payload": params.Group(
        {"kind": params.Text(required=True), "message": params.Text(), "text": params.Text()}, required=True
    ),
    "agentId": params.Text(min_length=1, nullable=True),
    "sessionKey": params.Text(min_length=1, nullable=True),
    "enabled": params.Flag(),
}


class CronMethods:
    """Handlers about schedules. A job that spawns instead of sending has the target `isolated`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def table(self) -> tuple[Method, ...]:
        read, admin = scopes.READ, scopes.ADMIN
        either: params.Rules = {"id": _ID, "jobId": _ID}
        return (
            Method("cron.list", read, self.list_jobs, {"includeDisabled": params.Flag()}),
            Method("cron.status", read, self.status),
            Method("cron.add", admin, self.add, _ADD_RULES),
            Method("cron.remove", admin, self.remove, either),
            Method("cron.run", admin, self.run, either),
        )

    async def list_jobs(self, call: Call) -> object:
        jobs = [_job(schedule) for schedule in await self._schedules()]
        shown = [job for job in jobs if job["enabled"] or call.params.get("includeDisabled")]
        return {"jobs": shown, "total": len(shown), "offset": 0, "limit": len(shown), "hasMore": False}

    async def status(self, _: Call) -> object:
        schedules = await self._schedules()
        coming = [millis(each.next_time) for each in schedules if not each.paused and each.HasField("next_time")]
        return {
            "enabled": True,
            "storePath": "mobot",
            "jobs": len(schedules),
            "nextWakeAtMs": min(coming) if coming else None,
        }

    async def add(self, call: Call) -> object:
        given = call.params
        schedule = message_pb2.Schedule(draft=self._draft(given), paused=not given.get("enabled", True))
        _set_timing(schedule, given["schedule"])
        schedule_id = re.sub(r"[^a-z0-9]+", "-", given["name"].lower()).strip("-")[:40] or "job"
        request = router_api.CreateScheduleRequest(
            schedule_id=f"{schedule_id}-{self._services.new_id()[:8]}", schedule=schedule
        )
        return _job((await self._services.router.CreateSchedule(request)).schedule)

    async def remove(self, call: Call) -> object:
        try:
            await self._services.router.DeleteSchedule(router_api.DeleteScheduleRequest(name=_name(call.params)))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return {"ok": True, "removed": False}
        return {"ok": True, "removed": True}

    async def run(self, call: Call) -> object:
        receipt = (
            await self._services.router.RunSchedule(router_api.RunScheduleRequest(name=_name(call.params)))
        ).receipt
        return {"ok": True, "ran": True, "runId": receipt.run}

    async def _schedules(self) -> list[message_pb2.Schedule]:
        found: list[message_pb2.Schedule] = []
        request = router_api.ListSchedulesRequest(page_size=1000)
        while True:
            page = await self._services.router.ListSchedules(request)
            found.extend(page.schedules)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def _draft(self, given: Mapping[str, Any]) -> message_pb2.MessageDraft:
        payload = given["payload"]
        text = payload.get("message") or payload.get("text")
        if not text:
            raise errors.invalid_request("invalid cron.add params: at /payload: must have message or text")
        name = self._services.keys.session(given.get("sessionKey") or MAIN, given.get("agentId"))
        return message_pb2.MessageDraft(session=name.name, parts=[part_pb2.Part(text=text)])


def _set_timing(schedule: message_pb2.Schedule, given: Mapping[str, Any]) -> None:
    match given["kind"]:
        case "cron" if given.get("expr"):
            schedule.cron = given["expr"]
            schedule.time_zone = given.get("tz") or ""
        case "every" if given.get("everyMs"):
            interval = duration_pb2.Duration()
            interval.FromMilliseconds(given["everyMs"])
            schedule.interval.CopyFrom(interval)
        case kind:
            raise errors.invalid_request(
                f"invalid cron.add params: at /schedule: {kind!r} is not served; use cron (expr) or every (everyMs)"
            )


def _name(given: Mapping[str, Any]) -> str:
    job = given.get("id") or given.get("jobId")
    if not job:
        raise errors.invalid_request("invalid params: must have one of id, jobId")
    return _PREFIX + str(job)


def _job(schedule: message_pb2.Schedule) -> dict[str, object]:
    created = millis(schedule.create_time)
    state: dict[str, object] = {}
    if schedule.HasField("next_time") and not schedule.paused:
        state["nextRunAtMs"] = millis(schedule.next_time)
    if schedule.HasField("last_time"):
        state["lastRunAtMs"] = millis(schedule.last_time)
    job: dict[str, object] = {
        "id": schedule.name.removeprefix(_PREFIX),
        "name": schedule.name.removeprefix(_PREFIX),
        "enabled": not schedule.paused,
        "createdAtMs": created,
        "updatedAtMs": max(created, int(str(state.get("lastRunAtMs", 0)))),
        "schedule": _timing(schedule),
        "wakeMode": "now",
        "state": state,
    }
    if schedule.HasField("spawn"):
        text = "\n".join(part.text for part in schedule.spawn.task if part.text)
        bot = schedule.spawn.bot or schedule.spawn.parent.partition("/sessions/")[0]
        return job | {
            "agentId": agent_of(bot),
            "sessionTarget": "isolated",
            "payload": {"kind": "agentTurn", "message": text or "-"},
        }
    draft = schedule.draft
    text = "\n".join(part.text for part in draft.parts if part.text)
    job |= {"sessionTarget": "main", "payload": {"kind": "agentTurn", "message": text or "-"}}
    if draft.session:
        job |= {"agentId": agent_of(draft.session), "sessionKey": key_of(draft.session)}
        session = parse_session(draft.session).session
        job["sessionTarget"] = "main" if session == MAIN else f"session:{session}"
    elif draft.bot:
        job["agentId"] = agent_of(draft.bot)
    return job


def _timing(schedule: message_pb2.Schedule) -> dict[str, object]:
    if schedule.WhichOneof("timing") == "interval":
        return {"kind": "every", "everyMs": max(1, schedule.interval.ToMilliseconds())}
    timing: dict[str, object] = {"kind": "cron", "expr": schedule.cron}
    if schedule.time_zone:
        timing["tz"] = schedule.time_zone
    return timing
