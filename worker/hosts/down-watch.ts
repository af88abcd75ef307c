import type { Verdict } from "../../durable-objects/contract.ts";
import type { Result } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import { locate } from "../services/authorise.ts";

/**
 * The host's answer, or `host-down` as soon as the host is known to be: a machine that vanished refuses no connection, and what the
 * edge knows of a place may be older than that. The call itself is left to its own time limit.
 */
export function unlessDown(edge: Edge, verdict: Verdict, answer: Promise<Result<Response>>): Promise<Result<Response>> {
  return new Promise((resolve, reject) => {
    let isOver = false;
    let stopLooking: () => void = () => undefined;
    const look = async () => {
      const place = await locate(edge, verdict);
      if (!place.ok && place.failure.kind === "host-down") resolve(place);
      else if (!isOver) lookLater();
    };
    const lookLater = () => {
      stopLooking = edge.timeLimits.begin(edge.settings.HOST_DOWN_CHECK_MS, () => look().catch(reject));
    };
    const end = () => {
      isOver = true;
      stopLooking();
    };
    lookLater();
    answer.then(
      (result) => {
        end();
        resolve(result);
      },
      (error) => {
        end();
        reject(error);
      },
    );
  });
}
