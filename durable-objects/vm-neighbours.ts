import { failure, type Result, success } from "../protocol/failures.ts";
import { regionObjectName } from "../protocol/ids.ts";
import type { HostPlace } from "./contract.ts";
import type { Env } from "./env.ts";
import type { SlugWish, VmRecord } from "./vm-contract.ts";
import type { VmRow } from "./vm-store.ts";

type Host = { readonly hostId: string; readonly hostUrl: string };

/** The objects that a VM's object depends on: its region and its account. Never throws; each call takes new stubs. */
export class VmNeighbours {
  readonly #env: Env;

  constructor(env: Env) {
    this.#env = env;
  }

  /** Takes a place on a host of the region, or on the one named. */
  async place(row: VmRow, onHost: string | null): Promise<Result<Host>> {
    const { driver, spreadGroup } = row.spec.placement;
    const wish = { onHost, accountId: row.accountId, driver, spreadGroup, resources: row.spec.resources };
    return ask(row, "place", async () => (await this.#region(row)).place(row.id, wish));
  }

  /** Where a snapshot's disk is, for a VM of the account that is to begin with it. */
  async boot(accountId: string, snapshotId: string): Promise<Result<HostPlace>> {
    return ask({ id: snapshotId }, "boot", () => this.#env.SNAPSHOT.getByName(snapshotId).boot(accountId));
  }

  /** Gives the place back; whether that is certain. */
  async release(row: VmRow): Promise<boolean> {
    const released = await ask(row, "release", async () => success(await (await this.#region(row)).release(row.id)));
    return released.ok;
  }

  /** Where the host is reached now; hosts move when they restart. `host-down` when it is known to be. */
  async hostUrl(row: VmRow): Promise<Result<string>> {
    const url = await ask(row, "hostUrl", async () => (await this.#region(row)).hostUrl(row.hostId));
    // Where the region does not know better, the last known URL is worth a try.
    return url.ok || url.failure.kind === "host-down" ? url : success(row.hostUrl);
  }

  /** Takes a place under the account's quota, and the slug. */
  async enter(vm: VmRecord, slug: SlugWish | null): Promise<Result<null>> {
    return ask(vm, "addVm", () => this.#account(vm).addVm(vm, slug));
  }

  /** Brings the account's index up to date; whether that is certain. */
  async note(vm: VmRecord): Promise<boolean> {
    const noted = await ask(vm, "noteVm", async () => success(await this.#account(vm).noteVm(vm)));
    return noted.ok;
  }

  async #region(row: VmRow) {
    return this.#env.REGION.getByName(await regionObjectName(row.region));
  }

  #account(vm: VmRecord) {
    return this.#env.ACCOUNT.getByName(vm.accountId);
  }
}

async function ask<T>(vm: { readonly id: string }, what: string, call: () => Promise<Result<T>>): Promise<Result<T>> {
  try {
    return await call();
  } catch (error) {
    console.warn(JSON.stringify({ message: "a VM's neighbour failed", vm: vm.id, call: what, error: String(error) }));
    return failure("authority-unavailable", "The authority could not be reached. Try again shortly.");
  }
}
