import { exports } from "cloudflare:workers";
import type { JSONWebKeySet } from "jose";
import { vi } from "vitest";
import { platformRandomBytes } from "../../../protocol/bytes.ts";
import { FEED_PING } from "../../../protocol/feed.ts";
import { newObjectName } from "../../../protocol/ids.ts";
import { enrolService, type TestService } from "./services.ts";
import { StubHost } from "./stub-host.ts";

/** The operator's key, whose hash the test deployment is given. */
export const OPERATOR_KEY = "operator-key-for-tests";

const HEARTBEAT_MS = 2_000;

export const ORIGIN = "https://edge.test";

const edge = (exports as unknown as { readonly default: Fetcher }).default;

export interface Call {
  readonly method?: string;
  readonly key?: string;
  /** Sent as the SDKs send an access token. */
  readonly token?: string;
  readonly linuxUser?: string;
  readonly headers?: Record<string, string>;
  /** Sent as JSON unless it is a string. */
  readonly body?: unknown;
}

/** Sends a request to the edge. */
export function call(path: string, { method = "GET", key, token, linuxUser, headers = {}, body }: Call = {}): Promise<Response> {
  const sent = new Headers(headers);
  if (key !== undefined) sent.set("authorization", `Bearer ${key}`);
  if (token !== undefined) sent.set("x-freestyle-identity-access-token", token);
  if (linuxUser !== undefined) sent.set("x-freestyle-vm-linux-user-id", linuxUser);
  const text = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
  const request = { method, headers: sent, redirect: "manual", ...(text === undefined ? {} : { body: text }) };
  return edge.fetch(new Request(new URL(path, ORIGIN), request));
}

/** Sends a request that must succeed and answers its JSON. */
export async function must<T>(path: string, options: Call = {}): Promise<T> {
  const response = await call(path, options);
  if (!response.ok) throw new Error(`${options.method ?? "GET"} ${path}: ${response.status} ${await response.text()}`);
  return response.json<T>();
}

export interface Account {
  readonly accountId: string;
  readonly key: string;
}

export interface Identity {
  readonly id: string;
  readonly token: string;
  readonly tokenId: string;
}

/** A region with one stub host that has joined it as a real one does, a forwarder's key, and an account. */
export interface World {
  readonly host: StubHost;
  /** What services of the region enrol with. */
  readonly serviceKey: string;
  /** The host's own standing at the edge, and that of a forwarder. */
  readonly hostService: TestService;
  readonly forwarder: TestService;
  readonly account: Account;
  readonly feed: WebSocket;
}

/** Opens a world. Fetches of the Worker and its objects reach stub hosts only; everything else is unreachable. */
export async function openWorld(): Promise<World> {
  const host = new StubHost(newObjectName(platformRandomBytes), () => must<JSONWebKeySet>("/.well-known/jwks.json"));
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
    const request = new Request(input, init);
    if (new URL(request.url).origin !== host.url) throw new TypeError("no route to host");
    return host.serve(request);
  });
  const { serviceKey } = await must<{ serviceKey: string }>("/operator/v1/regions/local/service-keys", {
    method: "POST",
    key: OPERATOR_KEY,
    body: { name: "test" },
  });
  const hostService = await enrolService(serviceKey, { kind: "host", hostId: host.id });
  const forwarder = await enrolService(serviceKey, { kind: "forwarder" });
  return { host, serviceKey, hostService, forwarder, account: await newAccount(), feed: await joinRegion(host, hostService) };
}

export async function newAccount(): Promise<Account> {
  const made = await must<{ accountId: string; apiKey: string }>("/operator/v1/accounts", {
    method: "POST",
    key: OPERATOR_KEY,
    body: { name: "test" },
  });
  return { accountId: made.accountId, key: made.apiKey };
}

export async function newVm({ key }: Account, body: unknown = {}): Promise<string> {
  return (await must<{ id: string }>("/v1/vms", { method: "POST", key, body })).id;
}

/** Makes an identity with one access token and one grant per VM. */
export async function newIdentity({ key }: Account, vmIds: readonly string[] = [], allowedUsers?: string[]): Promise<Identity> {
  const { id } = await must<{ id: string }>("/identity/v1/identities", { method: "POST", key });
  for (const vmId of vmIds) await must(grantPath(id, vmId), { method: "POST", key, body: { allowedUsers } });
  const made = await must<{ id: string; token: string }>(`/identity/v1/identities/${id}/tokens`, { method: "POST", key });
  return { id, token: made.token, tokenId: made.id };
}

export function grantPath(identityId: string, vmId: string): string {
  return `/identity/v1/identities/${identityId}/permissions/vm/${vmId}`;
}

async function joinRegion(host: StubHost, service: TestService): Promise<WebSocket> {
  const response = await call("/service/v1/feed", { key: await service.assertion(), headers: { upgrade: "websocket" } });
  const socket = response.webSocket;
  if (socket === null) throw new Error(`the feed answered ${response.status}: ${await response.text()}`);
  socket.accept();
  host.listen(socket);
  const welcomed = new Promise<void>((resolve, reject) => {
    socket.addEventListener("message", ({ data }) =>
      String(data).includes("welcome") ? resolve() : reject(new Error(String(data))),
    );
  });
  const { id, url } = host;
  socket.send(JSON.stringify({ type: "hello", role: "host", id, url, driver: "stub", version: "1", capacity: 1000 }));
  await welcomed;
  // As a real host does: one that is silent for long counts as gone, and slow machines make long test files.
  const heartbeat = setInterval(() => socket.send(FEED_PING), HEARTBEAT_MS);
  socket.addEventListener("close", () => clearInterval(heartbeat));
  return socket;
}
