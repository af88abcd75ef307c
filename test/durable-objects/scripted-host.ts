import { inject } from "vitest";
import type { MachineState } from "../../protocol/host-api.ts";
import "../fakes/provided.ts";
import { until } from "./verifiers.ts";

/** What the scripted host of `test/fakes/host-server.ts` may be told to do to the next request of an operation. */
export interface HostScript {
  readonly op: "create" | "read" | "start" | "stop" | "suspend" | "idle" | "resize" | "snapshots" | "delete-snapshots" | "delete";
  readonly act: "fail" | "hold" | "drop" | "obey-and-drop" | "garble" | "redirect" | "stay";
  readonly status?: number;
  readonly failure?: { readonly kind: string; readonly message: string };
}

interface Seen {
  readonly state: MachineState;
  readonly calls: readonly { readonly op: string; readonly ticket: string; readonly body: string }[];
  readonly held: number;
}

/** Base URL of the scripted host. */
export const scriptedHostUrl = () => inject("hostUrl");

export const script = (vmId: string, step: HostScript) => control("POST", vmId, "script", step);
export const setMachine = (vmId: string, state: MachineState) => control("POST", vmId, "state", state);
export const release = (vmId: string) => control("POST", vmId, "release");
export const seen = (vmId: string) => control("GET", vmId, "");

/** The operations that the host was asked for, in order. */
export async function asked(vmId: string): Promise<string[]> {
  return (await seen(vmId)).calls.map((call) => call.op);
}

/** Waits until the host holds a request. */
export async function untilHeld(vmId: string): Promise<void> {
  await until(async () => (await seen(vmId)).held > 0, "the host holds no request");
}

async function control(method: string, vmId: string, verb: string, body?: unknown): Promise<Seen> {
  const response = await fetch(`${scriptedHostUrl()}/control/${vmId}/${verb}`, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return (await response.json()) as Seen;
}
