import { FAILURES, type Failure, failure, isFailure, type Result, success } from "../protocol/failures.ts";
import {
  type MachineStatesAnswer,
  type MachineStatesReport,
  machineStatesAnswer,
  type SessionCheckAnswer,
  type SessionCheckRequest,
  sessionCheckAnswer,
} from "../protocol/service-api.ts";
import type { ServiceCredential } from "./credential.ts";
import type { Log } from "./log.ts";

export interface EdgeOptions {
  readonly edgeUrl: string;
  readonly credential: ServiceCredential;
  /** Longest wait for an answer, in milliseconds. */
  readonly timeoutMs: number;
  readonly log: Log;
}

/** No answer is a matter of trying again, never a refusal: the person's token may be perfectly good. */
export const UNAVAILABLE: Failure = {
  kind: "authority-unavailable",
  message: "The access service cannot be reached just now. Nothing is wrong with your token: try again in a moment.",
};

const MAX_ANSWER_BYTES = 65_536;

/** A failure that says nothing about the credential: asking again may succeed. */
export function isTransient({ kind }: Failure): boolean {
  return FAILURES[kind].v5[1] >= 500;
}

/** What hosts and forwarders ask of the edge, over HTTPS, each request with an assertion of its own (protocol/service-api.ts). */
export class EdgeClient {
  readonly #options: EdgeOptions;

  constructor(options: EdgeOptions) {
    this.#options = options;
  }

  /** The epochs of what a live session hangs on, if it may go on. */
  async checkSession(request: SessionCheckRequest, signal: AbortSignal): Promise<Result<SessionCheckAnswer>> {
    const answer = await this.post("session-checks", request, signal);
    if (!answer.ok) return answer;
    const read = sessionCheckAnswer.safeParse(answer.value);
    return read.success ? success(read.data) : this.unusable("session-checks");
  }

  /** Tells how machines are; of the VMs in the answer it must be told again. */
  async reportStates(report: MachineStatesReport, signal: AbortSignal): Promise<Result<MachineStatesAnswer>> {
    const answer = await this.post("machine-states", report, signal);
    if (!answer.ok) {
      const { kind } = answer.failure;
      if (!isTransient(answer.failure)) this.#options.log.warn("the edge takes no states of machines", { kind });
      return answer;
    }
    const read = machineStatesAnswer.safeParse(answer.value);
    return read.success ? success(read.data) : this.unusable("machine-states");
  }

  /** Asks below `/service/v1` and answers the JSON of a success. `authority-unavailable` when nothing usable came back. */
  async post(route: string, body: object, signal: AbortSignal): Promise<Result<unknown>> {
    const { edgeUrl, credential, timeoutMs, log } = this.#options;
    try {
      const response = await fetch(`${edgeUrl}/service/v1/${route}`, {
        method: "POST",
        headers: { authorization: `Bearer ${await credential.assertion()}`, "content-type": "application/json" },
        body: JSON.stringify(body),
        redirect: "error",
        signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
      });
      const answer = await readJson(response);
      if (response.ok) return success(answer);
      if (!isFailure(answer)) return this.unusable(route, response.status);
      if (answer.kind !== "service-key-refused") return { ok: false, failure: answer };
      // The operator's business, not that of the person who waits.
      log.error("the edge refuses this service", { route });
      return { ok: false, failure: UNAVAILABLE };
    } catch (error) {
      if (!signal.aborted) log.warn("the edge did not answer", { route, error: describe(error) });
      return { ok: false, failure: UNAVAILABLE };
    }
  }

  /** Notes an answer of an unknown form, which counts as none. */
  unusable(route: string, status = 200): { ok: false; failure: Failure } {
    this.#options.log.warn("the edge gave an answer of an unknown form", { route, status });
    return failure(UNAVAILABLE.kind, UNAVAILABLE.message);
  }
}

async function readJson(response: Response): Promise<unknown> {
  const length = Number(response.headers.get("content-length") ?? "0");
  if (length > MAX_ANSWER_BYTES) throw new Error("the answer is too long");
  try {
    return await response.json();
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return "unknown";
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}
