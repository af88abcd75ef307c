import { failure, type Result, success } from "../../protocol/failures.ts";
import { chosenProtocol } from "../auth/client-ticket.ts";

/**
 * Answers a WebSocket's upgrade with the socket that `open` got from a host. The two are joined by the runtime, and nothing
 * here sees a frame. `bad-request` for a request that asks for no upgrade.
 */
export async function upgradeTo(request: Request, open: () => Promise<Result<unknown>>): Promise<Result<Response>> {
  if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
    return failure("bad-request", "This path is a WebSocket: ask for an upgrade.");
  }
  const answer = await open();
  if (!answer.ok) return answer;
  const { webSocket } = answer.value as Response;
  const protocol = chosenProtocol(request);
  const headers = protocol === null ? {} : { "sec-websocket-protocol": protocol };
  return success(new Response(null, { status: 101, webSocket, headers }));
}
