/**
 * Says something to a bot and shows its answer as it is written:
 *
 *     node examples/talk.ts main "hello"
 *
 * The session is watched from before the message is sent, so nothing of the answer can be missed.
 */

import { randomUUID } from "node:crypto";

import { Role } from "../src/gen/mobot/session/v1/event_pb.js";
import { RunOutcome } from "../src/gen/mobot/session/v1/session_pb.js";
import { ConflictPolicy } from "../src/gen/mobot/session/v1/session_service_pb.js";
import { connect } from "../src/mobot.ts";

async function talk(bot: string, text: string): Promise<string> {
  const mobot = connect();
  const session = `bots/${bot}/sessions/typescript`;
  const run = randomUUID(); // also the idempotency key: sent twice, it is one message
  const stop = new AbortController();
  await mobot.session.createSession({
    parent: `bots/${bot}`,
    sessionId: "typescript",
    conflictPolicy: ConflictPolicy.USE_EXISTING,
  });
  const watch = mobot.session.watchEvents(
    { sessions: [session], afterSequence: -1n, includeDeltas: true },
    { signal: stop.signal },
  );
  let answer = "";
  for await (const frame of watch) {
    // Once the watch has caught up with the log, whatever happens next is seen.
    if (frame.caughtUp) {
      const parts = [{ content: { case: "text", value: text } } as const];
      await mobot.router.sendMessage({
        message: { destination: { case: "session", value: session }, parts, idempotencyKey: run, userInput: true },
      });
    }
    for (const delta of frame.deltas) {
      if (delta.run === run && process.stderr.isTTY) process.stderr.write(delta.text);
    }
    for (const { payload, ...event } of frame.events) {
      if (event.run !== run) continue;
      if (payload.case === "message" && payload.value.role === Role.ASSISTANT) {
        answer = payload.value.parts.map((part) => (part.content.case === "text" ? part.content.value : "")).join("");
      }
      if (payload.case === "runFinished") {
        stop.abort();
        const { outcome, errorMessage } = payload.value;
        if (outcome === RunOutcome.SUCCEEDED) return answer;
        throw new Error(`the run ended as ${RunOutcome[outcome]}: ${errorMessage}`);
      }
    }
  }
  throw new Error("the watch ended before the run");
}

const [bot = "main", text = "hello"] = process.argv.slice(2);
try {
  console.log(await talk(bot, text));
  process.exit(0); // the connections would be kept for a while
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
