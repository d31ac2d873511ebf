/** Clients of the four services, with the token and a deadline on every call. */

import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

import { type Client, type Interceptor, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { MemoryService } from "./gen/mobot/memory/v1/memory_service_pb.js";
import { RegistryService } from "./gen/mobot/registry/v1/registry_service_pb.js";
import { RouterService } from "./gen/mobot/router/v1/router_service_pb.js";
import { SessionService } from "./gen/mobot/session/v1/session_service_pb.js";

export interface Options {
  /** The root secret, or a token minted from it. Default: MOBOT_TOKEN, else the data directory's file `token`. */
  token?: string;
  /** On whose behalf the calls are made, such as "bots/main". Default: whoever the token proves. */
  actor?: string;
  /** Base addresses of the services. Default: MOBOT_<SERVICE>_TARGET, else where `mobot up` has them. */
  addresses?: Partial<Record<ServiceName, string>>;
  /** Longest duration of a unary call in milliseconds. Streams have none of their own. */
  timeoutMs?: number;
}

export interface Mobot {
  registry: Client<typeof RegistryService>;
  session: Client<typeof SessionService>;
  memory: Client<typeof MemoryService>;
  router: Client<typeof RouterService>;
}

type ServiceName = keyof Mobot;

const PORTS: Record<ServiceName, number> = { registry: 50051, session: 50052, memory: 50053, router: 50054 };

/** Makes the clients; each opens its connection at its first call, and again after it was lost. */
export function connect(options: Options = {}): Mobot {
  const token = options.token ?? process.env.MOBOT_TOKEN ?? storedToken();
  const timeout = `${options.timeoutMs ?? 30_000}m`;
  const metadata: Interceptor = (next) => (call) => {
    call.header.set("authorization", `Bearer ${token}`);
    if (options.actor !== undefined) call.header.set("mobot-actor", options.actor);
    // A watch lasts as long as its watcher; whatever else is not answered in time the server gives up.
    if (!call.stream && !call.header.has("grpc-timeout")) call.header.set("grpc-timeout", timeout);
    return next(call);
  };
  const transport = (service: ServiceName) =>
    createGrpcTransport({
      baseUrl: options.addresses?.[service] ?? address(service),
      interceptors: [metadata],
      pingIntervalMs: 20_000, // finds out that a silent stream's server is gone
    });
  return {
    registry: createClient(RegistryService, transport("registry")),
    session: createClient(SessionService, transport("session")),
    memory: createClient(MemoryService, transport("memory")),
    router: createClient(RouterService, transport("router")),
  };
}

function storedToken(): string {
  const file = join(process.env.MOBOT_DATA_DIR ?? join(homedir(), ".mobot"), "token");
  try {
    return readFileSync(file, "utf8").trim();
  } catch (cause) {
    throw new Error(`no token: start mobot, or set MOBOT_TOKEN, or MOBOT_DATA_DIR (looked for ${file})`, { cause });
  }
}

function address(service: ServiceName): string {
  const variable = `MOBOT_${service.toUpperCase()}_TARGET`;
  const target = process.env[variable] ?? `127.0.0.1:${PORTS[service]}`;
  const hostAndPort = target.replace(/^dns:\/\/\//, "");
  if (!/^[^:/]+:\d+$/.test(hostAndPort)) throw new Error(`${variable}=${target}: only host:port and dns:///host:port`);
  return `http://${hostAndPort}`;
}
