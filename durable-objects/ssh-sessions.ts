import type { SshSession } from "../protocol/feed.ts";
import type { Subject } from "../protocol/subjects.ts";
import type { SshSessionRow } from "./contract.ts";

type Columns = {
  id: string;
  sub: string;
  vm_id: string;
  linux_user: string;
  credential_id: string;
  address: string;
  since: number;
};

/** The SSH connections that a region's forwarders hold, as they tell it. Whoever is not connected is not believed any more. */
export class SshSessions {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  opened(forwarderId: string, sessions: readonly SshSession[]): void {
    for (const session of sessions) {
      this.#sql.exec(
        `INSERT OR REPLACE INTO ssh_sessions
           (id, forwarder_id, account_id, sub, vm_id, linux_user, credential_id, address, since)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        session.id,
        forwarderId,
        session.account,
        session.sub,
        session.vm,
        session.user,
        session.cred,
        session.address,
        session.since,
      );
    }
  }

  closed(forwarderId: string, ids: readonly string[]): void {
    for (const id of ids) this.#sql.exec("DELETE FROM ssh_sessions WHERE id = ? AND forwarder_id = ?", id, forwarderId);
  }

  /** Forgets what forwarders outside `connected` held, and what `joining` held: it tells all of it anew. */
  forget(joining: string, connected: ReadonlySet<string>): void {
    const holders = this.#sql.exec<{ forwarder_id: string }>("SELECT DISTINCT forwarder_id FROM ssh_sessions").toArray();
    for (const { forwarder_id: id } of holders) {
      if (id === joining || !connected.has(id)) this.#sql.exec("DELETE FROM ssh_sessions WHERE forwarder_id = ?", id);
    }
  }

  /** Sessions of an account at connected forwarders, oldest first. */
  list(accountId: string, connected: ReadonlySet<string>, limit: number): SshSessionRow[] {
    return this.#sql
      .exec<Columns & { forwarder_id: string }>(
        "SELECT * FROM ssh_sessions WHERE account_id = ? ORDER BY since, id LIMIT ?",
        accountId,
        limit,
      )
      .toArray()
      .filter((row) => connected.has(row.forwarder_id))
      .map((row) => ({
        id: row.id,
        subject: row.sub as Subject,
        vmId: row.vm_id,
        linuxUser: row.linux_user,
        credentialId: row.credential_id,
        address: row.address,
        since: row.since,
      }));
  }

  /** The forwarder that holds an account's session; null when there is no such session. */
  holder(accountId: string, id: string): string | null {
    const [row] = this.#sql
      .exec<{ forwarder_id: string }>("SELECT forwarder_id FROM ssh_sessions WHERE id = ? AND account_id = ?", id, accountId)
      .toArray();
    return row?.forwarder_id ?? null;
  }
}
