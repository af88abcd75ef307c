import { beforeEach, expect, it } from "vitest";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newObjectName, newVmId } from "../../protocol/ids.ts";
import { identitySubject } from "../../protocol/subjects.ts";
import { type Account, call, must, newAccount, newIdentity, openWorld, type World } from "./support/world.ts";

const DEADLINE_MS = 5_000;

let world: World;
let other: Account;
beforeEach(async () => {
  world = await openWorld();
  other = await newAccount();
});

interface Listed {
  readonly sessions: readonly { readonly id: string }[];
}

/** A forwarder's end of the feed. */
interface Forwarder {
  readonly id: string;
  readonly socket: WebSocket;
  readonly received: { readonly type: string; readonly id?: string }[];
}

async function join(id = newObjectName(platformRandomBytes)): Promise<Forwarder> {
  const response = await call("/service/v1/feed", { key: await world.forwarder.assertion(), headers: { upgrade: "websocket" } });
  const socket = response.webSocket;
  if (socket === null) throw new Error(`the feed answered ${response.status}`);
  const received: Forwarder["received"] = [];
  socket.addEventListener("message", ({ data }) => {
    received.push(JSON.parse(String(data)) as Forwarder["received"][number]);
  });
  socket.accept();
  socket.send(JSON.stringify({ type: "hello", role: "forwarder", id, version: "1" }));
  await eventually(() => received.length > 0);
  return { id, socket, received };
}

const identityId = newObjectName(platformRandomBytes);
const session = (account: Account, since = 1_700_000_000_000) => ({
  id: newObjectName(platformRandomBytes),
  account: account.accountId,
  sub: identitySubject(identityId),
  vm: newVmId(platformRandomBytes),
  user: "dev",
  cred: "cred-1",
  address: "192.0.2.7",
  since,
});

function tell({ socket }: Forwarder, opened: object[], closed: string[] = []): void {
  socket.send(JSON.stringify({ type: "ssh-sessions", opened, closed }));
}

async function listed({ key }: Account): Promise<string[]> {
  return (await must<Listed>("/v5/ssh-sessions", { key })).sessions.map(({ id }) => id);
}

async function eventually(holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error("it never happened");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

it("an account lists the connections into its VMs and nobody else's, oldest first", async () => {
  const forwarder = await join();
  const [first, second, foreign] = [session(world.account, 1_000), session(world.account, 2_000), session(other)];
  tell(forwarder, [second, foreign, first]);
  await eventually(async () => (await listed(other)).length === 1);
  expect(await listed(world.account)).toEqual([first.id, second.id]);
  const { sessions } = await must<{ sessions: object[] }>("/v5/ssh-sessions", { key: world.account.key });
  expect(sessions[0]).toEqual({
    id: first.id,
    vmId: first.vm,
    linuxUser: "dev",
    identityId,
    credentialId: "cred-1",
    clientAddress: "192.0.2.7",
    region: "local",
    startedAt: "1970-01-01T00:00:01.000Z",
  });
  tell(forwarder, [], [first.id]);
  await eventually(async () => (await listed(world.account)).length === 1);
  expect(await listed(world.account)).toEqual([second.id]);
});

it("closing one tells the forwarder that holds it, and only it", async () => {
  const [holder, bystander] = [await join(), await join()];
  const live = session(world.account);
  tell(holder, [live]);
  await eventually(async () => (await listed(world.account)).length === 1);
  expect((await call(`/v5/ssh-sessions/${live.id}`, { method: "DELETE", key: world.account.key })).status).toBe(204);
  await eventually(() => holder.received.some(({ type, id }) => type === "close-ssh-session" && id === live.id));
  expect(bystander.received.map(({ type }) => type)).toEqual(["welcome"]);
});

it("a connection of another account, one that has ended and one that never was are refused in the same bytes", async () => {
  const forwarder = await join();
  const foreign = session(other);
  tell(forwarder, [foreign]);
  await eventually(async () => (await listed(other)).length === 1);
  const bodies = new Set<string>();
  for (const id of [foreign.id, newObjectName(platformRandomBytes), "nonsense"]) {
    const response = await call(`/v5/ssh-sessions/${id}`, { method: "DELETE", key: world.account.key });
    expect(response.status).toBe(404);
    bodies.add((await response.text()).replaceAll(response.headers.get("x-freestyle-trace-id") ?? "-", ""));
  }
  expect(bodies.size).toBe(1);
  expect(forwarder.received).toHaveLength(1);
});

it("an access token may neither list nor close", async () => {
  const identity = await newIdentity(world.account);
  expect((await call("/v5/ssh-sessions", { token: identity.token })).status).toBe(403);
  const path = `/v5/ssh-sessions/${newObjectName(platformRandomBytes)}`;
  expect((await call(path, { method: "DELETE", token: identity.token })).status).toBe(403);
});

it("connections of a forwarder that left are not listed, and one that comes back tells them anew", async () => {
  const forwarder = await join();
  const [kept, ended] = [session(world.account), session(world.account)];
  tell(forwarder, [kept, ended]);
  await eventually(async () => (await listed(world.account)).length === 2);
  forwarder.socket.close(1000);
  await eventually(async () => (await listed(world.account)).length === 0);
  const back = await join(forwarder.id);
  tell(back, [kept]);
  await eventually(async () => (await listed(world.account)).length === 1);
  expect(await listed(world.account)).toEqual([kept.id]);
});

it("a forwarder cannot end another one's row, and a host cannot tell of connections at all", async () => {
  const [holder, liar] = [await join(), await join()];
  const live = session(world.account);
  tell(holder, [live]);
  await eventually(async () => (await listed(world.account)).length === 1);
  tell(liar, [session(other)], [live.id]);
  await eventually(async () => (await listed(other)).length === 1);
  expect(await listed(world.account)).toEqual([live.id]);
  const closed = new Promise<number>((resolve) => world.feed.addEventListener("close", ({ code }) => resolve(code)));
  world.feed.send(JSON.stringify({ type: "ssh-sessions", opened: [session(other)], closed: [] }));
  expect(await closed).toBe(4003);
});
