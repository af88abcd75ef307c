import { failure } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import { failureAnswer } from "./answers.ts";
import { dialectOf } from "./fallbacks.ts";

/** Refuses a request whose URL and headers are larger than the settings allow, before anything looks at them; null: it may go on. */
export function refuseHead(edge: Edge): Response | null {
  const { head, settings } = edge;
  const maxBytes = settings.MAX_REQUEST_HEAD_BYTES;
  if (head.length <= maxBytes) return null;
  const refused = failure("request-head-too-large", `URL and headers have more than ${maxBytes} characters.`, { maxBytes });
  return failureAnswer(refused.failure, dialectOf(edge), settings);
}
