import { type Result, success } from "../protocol/failures.ts";
import { type SshTicketRequest, sshTicketAnswer } from "../protocol/service-api.ts";
import { EdgeClient } from "../service/edge-client.ts";
import type { SessionChecker } from "../service/live-sessions.ts";

/** What the forwarder asks of the edge. Failures carry a message for the person who logs in. */
export interface TicketSource extends SessionChecker {
  /** A ticket for a login that showed a token. `authority-unavailable` when the edge gave no usable answer. */
  requestTicket(request: SshTicketRequest, signal: AbortSignal): Promise<Result<string>>;
}

/** The edge as a source of tickets. */
export class EdgeTicketSource extends EdgeClient implements TicketSource {
  async requestTicket(request: SshTicketRequest, signal: AbortSignal): Promise<Result<string>> {
    const answer = await this.post("ssh-tickets", request, signal);
    if (!answer.ok) return answer;
    const read = sshTicketAnswer.safeParse(answer.value);
    return read.success ? success(read.data.ticket) : this.unusable("ssh-tickets");
  }
}
