/** Members of a log line beside its message. Never a token, a ticket or a key: see `credentialLogName`. */
export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

export interface Log {
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A log whose lines all carry these fields too. */
  child(fields: LogFields): Log;
}

/** Writes one JSON object a line: `time` (ISO 8601), `level`, `message`, and the fields. */
export function createLog(write: (line: string) => void, fields: LogFields = {}): Log {
  const emit =
    (level: string) =>
    (message: string, more: LogFields = {}) =>
      write(`${JSON.stringify({ time: new Date().toISOString(), level, message, ...fields, ...more })}\n`);
  return {
    info: emit("info"),
    warn: emit("warn"),
    error: emit("error"),
    child: (more) => createLog(write, { ...fields, ...more }),
  };
}

/** The log of a process: JSON lines on standard error. */
export function processLog(component: string): Log {
  return createLog((line) => process.stderr.write(line), { component });
}
