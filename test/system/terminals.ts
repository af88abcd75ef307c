import type { VmPty as VmPty63 } from "freestyle-0.1";
import { Freestyle as Freestyle2, type VmPty as VmPty2 } from "freestyle-0.2";
import { system } from "./fixture.ts";
import { until } from "./poll.ts";
import type { Sdk } from "./sdk.ts";

/** How long something on a terminal may take, in milliseconds. */
export const TERMINAL_DEADLINE_MS = 20_000;

/** The terminals of a VM with 0.1.63, whose types, which stand in for it, have no terminals. */
export function pty63(client: Sdk, vmId: string, username?: string): VmPty63 {
  const vm = client.vms.ref({ vmId });
  const acting: unknown = username === undefined ? vm : vm.user({ username });
  return (acting as { readonly pty: VmPty63 }).pty;
}

/** A client of 0.2. */
export function client2(
  credential: { readonly apiKey: string } | { readonly identityAccessToken: string },
  apiUrl = system.apiUrl,
): Freestyle2 {
  return new Freestyle2({ baseUrl: apiUrl, ...credential });
}

/** The terminals of a VM with 0.2. */
export function pty2(client: Freestyle2, vmId: string): VmPty2 {
  return client.vms.ref(vmId).pty;
}

/** Listeners for either SDK's terminal session, and what they heard. */
export class Listener {
  #text = "";
  readonly exits: number[] = [];
  readonly errors: unknown[] = [];
  reconnecting = 0;
  closed: { readonly code: number; readonly reason: string } | null = null;
  readonly onData = (data: Uint8Array) => {
    this.#text += Buffer.from(data).toString("utf8");
  };
  readonly onExit = (exitCode: number) => {
    this.exits.push(exitCode);
  };
  readonly onError = (error: unknown) => {
    this.errors.push(error);
  };
  readonly onReconnecting = () => {
    this.reconnecting += 1;
  };
  readonly onClose = (info: { readonly code: number; readonly reason: string }) => {
    this.closed = info;
  };

  /** Everything that the terminal showed. */
  get screen(): string {
    return this.#text;
  }

  /** Waits until the terminal has shown it. */
  async shows(pattern: RegExp): Promise<void> {
    try {
      await until(`the terminal shows ${pattern}`, TERMINAL_DEADLINE_MS, () => (pattern.test(this.#text) ? true : undefined));
    } catch (cause) {
      throw new Error(`the terminal does not show ${pattern}, but:\n${this.#text}`, { cause });
    }
  }

  /** Waits for the exit code. */
  exit(): Promise<number> {
    return until("the session exits", TERMINAL_DEADLINE_MS, () => this.exits[0]);
  }

  /** Waits until the socket is closed. */
  close(): Promise<{ readonly code: number; readonly reason: string }> {
    return until("the socket is closed", TERMINAL_DEADLINE_MS, () => this.closed ?? undefined);
  }
}
