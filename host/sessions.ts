import type { Subject } from "../protocol/subjects.ts";

/** A live tunnel and the verdict it stands on. */
export interface LiveSession {
  readonly vmId: string;
  readonly linuxUser: string;
  readonly subject: Subject;
  readonly epoch: number;
  /** Id of the access token or API key behind it. */
  readonly credentialId: string;
  /** Milliseconds since 1970 UTC. */
  readonly since: number;
}

/** The tunnels that are open on this host, by VM. The forwarder ends those that lose their grant; here they are counted. */
export class LiveSessions {
  readonly #byVm = new Map<string, Set<LiveSession>>();

  /** Adds a session; the returned function takes it away again. */
  add(session: LiveSession): () => void {
    const sessions = this.#byVm.get(session.vmId) ?? new Set();
    this.#byVm.set(session.vmId, sessions);
    sessions.add(session);
    return () => {
      sessions.delete(session);
      if (sessions.size === 0 && this.#byVm.get(session.vmId) === sessions) this.#byVm.delete(session.vmId);
    };
  }

  count(vmId: string): number {
    return this.#byVm.get(vmId)?.size ?? 0;
  }

  list(vmId: string): LiveSession[] {
    return [...(this.#byVm.get(vmId) ?? [])];
  }
}
