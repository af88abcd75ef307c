import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { createApp } from "../../../worker/app.ts";
import type { EdgeEnv } from "../../../worker/edge.ts";
import { ORIGIN } from "./world.ts";

const OBJECTS = ["ACCOUNT", "IDENTITY", "VM", "REGION", "SNAPSHOT", "SIGNING_KEYS", "AUDIT", "BACKGROUND_REQUEST"] as const;

/** The edge with every call that it makes to a Durable Object counted, as `BINDING.method`. */
export class CountedEdge {
  readonly calls: string[] = [];
  readonly #app = createApp();
  readonly #env: EdgeEnv;

  constructor(settings: Record<string, string> = {}) {
    const counted = OBJECTS.map((name) => [name, this.#counted(name)]);
    this.#env = { ...(env as unknown as EdgeEnv), ...settings, ...Object.fromEntries(counted) };
  }

  /** Serves a request and waits for what goes on after the answer. */
  async fetch(path: string, init: RequestInit): Promise<Response> {
    const context = createExecutionContext();
    const response = await this.#app.fetch(new Request(new URL(path, ORIGIN), init), this.#env, context);
    const body = await response.arrayBuffer();
    await waitOnExecutionContext(context);
    return new Response(response.status === 204 ? null : body, response);
  }

  /** What was called since the last time this was asked. */
  taken(): string[] {
    return this.calls.splice(0);
  }

  #counted(name: (typeof OBJECTS)[number]): unknown {
    const namespace = (env as unknown as EdgeEnv)[name];
    const { calls } = this;
    return {
      getByName(objectName: string) {
        return new Proxy(namespace.getByName(objectName), {
          get(stub, method) {
            const member: unknown = Reflect.get(stub, method);
            if (typeof member !== "function" || typeof method !== "string") return member;
            return (...args: unknown[]) => {
              calls.push(`${name}.${method}`);
              return Reflect.apply(member, stub, args);
            };
          },
        });
      },
    };
  }
}

/** Levels that answered, by step, from an answer's `Server-Timing`. */
export function levelsOf(response: Response): Record<string, string> {
  const steps = (response.headers.get("server-timing") ?? "").split(", ").filter((step) => step !== "");
  return Object.fromEntries(steps.map((step) => [/^[^;]+/.exec(step)?.[0], /desc=(\w+)/.exec(step)?.[1] ?? ""]));
}
