import type { Hono } from "hono";
import { failure } from "../../protocol/failures.ts";
import type { EdgeContext, EdgeHono } from "../edge.ts";
import { logEvent } from "../log.ts";
import { type Dialect, failureAnswer } from "./answers.ts";

/** Answers a path that nothing serves. */
export function answerUnknown(c: EdgeContext): Response {
  const missing = failure("route-not-found", "There is nothing at this path.");
  return failureAnswer(missing.failure, dialectOf(c), c.var.edge.settings);
}

/** Answers a bug or a broken deployment: a known code to the caller, the error's name and place to the log, never its words. */
export function answerError(error: Error, c: EdgeContext): Response {
  const places = (error.stack ?? "").split("\n").filter((line) => line.startsWith("    at "));
  logEvent("internal-error", { traceId: c.var.edge.traceId, name: error.name, stack: places.join("\n") });
  const broken = failure("internal", "Something went wrong on our side. The trace id of this answer helps to find it.");
  return failureAnswer(broken.failure, dialectOf(c), c.var.edge.settings);
}

/** Answers a served path that is asked with another method by 405 and the methods it has (RFC 9110 section 15.5.6). */
export function refuseOtherMethods(app: Hono<EdgeHono>): void {
  const methods = new Map<string, Set<string>>();
  for (const { method, path } of app.routes) {
    if (method === "ALL" || path.includes("*")) continue;
    methods.set(path, (methods.get(path) ?? new Set()).add(method));
  }
  for (const [path, allowed] of methods) {
    const allow = [...allowed].sort().join(", ");
    app.all(path, (c) => {
      const refused = failure("method-not-allowed", `This path takes ${allow}.`);
      const answer = failureAnswer(refused.failure, dialectOf(c), c.var.edge.settings);
      answer.headers.set("allow", allow);
      return answer;
    });
  }
}

/** The dialect in which a path is answered. */
export function dialectOf(c: EdgeContext): Dialect {
  const { pathname } = new URL(c.req.url);
  return /^\/(?:v5|operator|service)\//.test(pathname) ? "v5" : "v1";
}
