/** The line that opens an end-to-end connection: `POSTERN-TICKET <ticket> <public key line>`. */
export const TICKET_KEYWORD = "POSTERN-TICKET";

/** Its answers: the VM's host key line, after which the VM's own sshd speaks, or why not, after which the end comes. */
export const READY_KEYWORD = "POSTERN-READY";
export const REFUSED_KEYWORD = "POSTERN-REFUSED";

/** Longest identification line, its end included (RFC 4253 section 4.2). */
export const MAX_IDENTIFICATION_BYTES = 255;

/** Longest `POSTERN-TICKET` line: a ticket has about 900 characters, a key line 80. */
export const MAX_TICKET_LINE_BYTES = 4_096;

/** What a connection is, by its first line. */
export type Opening =
  /** Its first line is not whole yet. */
  | { readonly kind: "more" }
  /** SSH: every byte so far is for the SSH server, the client's identification line among them; `rest` comes after that line. */
  | { readonly kind: "ssh"; readonly identification: string; readonly rest: Buffer }
  /** End to end: `rest` is already for the VM. */
  | { readonly kind: "ticket"; readonly ticket: string; readonly publicKey: string; readonly rest: Buffer }
  | { readonly kind: "refused"; readonly reason: "not-ssh" | "too-long" | "ticket-line" };

const SSH = Buffer.from("SSH-");
const TICKET = Buffer.from(`${TICKET_KEYWORD} `);
const TICKET_LINE = new RegExp(`^${TICKET_KEYWORD} ([\\w-]+\\.[\\w-]+\\.[\\w-]+) (ssh-ed25519 [A-Za-z0-9+/]{68})$`);
const NEWLINE = 10;

/** Reads the opening from everything that has come so far. `ssh2` 1.17.0 loses parts of a line that comes in three or more. */
export function readOpening(bytes: Buffer): Opening {
  if (startsAlike(bytes, SSH)) {
    const end = bytes.indexOf(NEWLINE);
    if ((end === -1 ? bytes.length : end) >= MAX_IDENTIFICATION_BYTES) return { kind: "refused", reason: "too-long" };
    if (end === -1) return { kind: "more" };
    return { kind: "ssh", identification: bytes.toString("latin1", 0, end).trimEnd(), rest: bytes.subarray(end + 1) };
  }
  if (!startsAlike(bytes, TICKET)) return { kind: "refused", reason: "not-ssh" };
  const end = bytes.indexOf(NEWLINE);
  if ((end === -1 ? bytes.length : end) >= MAX_TICKET_LINE_BYTES) return { kind: "refused", reason: "too-long" };
  if (end === -1) return { kind: "more" };
  const [, ticket, publicKey] = TICKET_LINE.exec(bytes.toString("latin1", 0, end)) ?? [];
  if (ticket === undefined || publicKey === undefined) return { kind: "refused", reason: "ticket-line" };
  return { kind: "ticket", ticket, publicKey, rest: bytes.subarray(end + 1) };
}

/** Whether the bytes are a beginning of `expected`, or it is a beginning of them. */
function startsAlike(bytes: Buffer, expected: Buffer): boolean {
  const length = Math.min(bytes.length, expected.length);
  return bytes.subarray(0, length).equals(expected.subarray(0, length));
}
