import { RegExpRouter } from "hono/router/reg-exp-router";
import { failure } from "../../protocol/failures.ts";
import type { Edge, EdgeContext } from "../edge.ts";
import { logEvent } from "../log.ts";
import { type Dialect, failureAnswer } from "./answers.ts";
import { routingPath } from "./routing-path.ts";

const ANY_METHOD = "ALL";

/**
 * Answers what no route serves: a path that none has by 404, one that is asked with another method by 405 and the methods it has
 * (RFC 9110 section 15.5.6).
 */
export function answerUnknown(routes: readonly { readonly method: string; readonly path: string }[]) {
  const allowed = methodsByPath(routes);
  return (c: EdgeContext): Response => {
    const edge = c.env;
    const [[[allow] = [null]]] = allowed.match(ANY_METHOD, routingPath(edge.url.pathname));
    const refused =
      allow === null
        ? failure("route-not-found", "There is nothing at this path.")
        : failure("method-not-allowed", `This path takes ${allow}.`);
    const answer = failureAnswer(refused.failure, dialectOf(edge), edge.settings);
    if (allow !== null) answer.headers.set("allow", allow);
    return answer;
  };
}

/** Answers a bug or a broken deployment: a known code to the caller, the error's name and place to the log, never its words. */
export function answerError(error: Error, edge: Edge): Response {
  const places = (error.stack ?? "").split("\n").filter((line) => line.startsWith("    at "));
  logEvent("internal-error", { traceId: edge.traceId, name: error.name, stack: places.join("\n") });
  const broken = failure("internal", "Something went wrong on our side. The trace id of this answer helps to find it.");
  return failureAnswer(broken.failure, dialectOf(edge), edge.settings);
}

/** The methods of each path, as an `Allow` header has them. */
function methodsByPath(routes: readonly { readonly method: string; readonly path: string }[]): RegExpRouter<string> {
  const methods = new Map<string, Set<string>>();
  for (const { method, path } of routes) methods.set(path, (methods.get(path) ?? new Set()).add(method));
  const router = new RegExpRouter<string>();
  for (const [path, allowed] of methods) router.add(ANY_METHOD, path, [...allowed].sort().join(", "));
  return router;
}

/** The dialect in which a path is answered. */
export function dialectOf({ url }: Edge): Dialect {
  return /^\/(?:v5|operator|service)\//.test(url.pathname) ? "v5" : "v1";
}
