import { createExecutionContext } from "cloudflare:test";
import { createApp } from "../../../worker/app.ts";

const app = createApp();

/** What the edge answers with settings or bindings of its own; an object in place of a binding stands in for it. */
export function served(url: string, init: RequestInit, env: object, context = createExecutionContext()): Promise<Response> {
  return app.fetch(new Request(url, init), env as Parameters<typeof app.fetch>[1], context);
}
