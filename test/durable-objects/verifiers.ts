import { FEED_REGION_HEADER, FEED_SERVICE_HEADER } from "../../durable-objects/contract.ts";
import type { FeedDownstream } from "../../protocol/feed.ts";
import { freshName, localRegion } from "./objects.ts";
import { newService } from "./services.ts";

/** A verifier's end of the feed, as a test drives it. */
export interface TestFeed {
  readonly socket: WebSocket;
  /** The next message that was not taken yet; fails after a deadline. */
  next(): Promise<FeedDownstream | string>;
  /** Resolves with the close code. */
  readonly closed: Promise<number>;
  send(message: unknown): void;
}

const DEADLINE_MS = 5_000;

/** Opens a feed socket as the Worker does once it has checked the assertion. */
export async function openFeed(serviceId: string, region = "local"): Promise<TestFeed> {
  const response = await upgrade({ [FEED_SERVICE_HEADER]: serviceId, [FEED_REGION_HEADER]: region });
  const socket = response.webSocket;
  if (socket === null) throw new Error(`the region refused the upgrade with ${response.status}`);
  const arrived: (FeedDownstream | string)[] = [];
  const waiting: ((message: FeedDownstream | string) => void)[] = [];
  socket.addEventListener("message", ({ data }) => {
    const message = readMessage(String(data));
    const waiter = waiting.shift();
    if (waiter === undefined) arrived.push(message);
    else waiter(message);
  });
  const closed = new Promise<number>((resolve) => {
    socket.addEventListener("close", ({ code }) => resolve(code));
  });
  socket.accept();
  return {
    socket,
    closed,
    next: () => {
      const message = arrived.shift();
      if (message !== undefined) return Promise.resolve(message);
      return withDeadline(new Promise((resolve) => waiting.push(resolve)), "no message arrived");
    },
    send: (message) => socket.send(typeof message === "string" ? message : JSON.stringify(message)),
  };
}

/** Sends an upgrade request to the region with these headers. */
export async function upgrade(headers: Record<string, string>): Promise<Response> {
  return (await localRegion()).fetch("http://region/feed", { headers: { upgrade: "websocket", ...headers } });
}

export const hostHello = (id: string, url = "http://127.0.0.1:1", capacity = 10, driver = "container") => ({
  type: "hello",
  role: "host",
  id,
  url,
  driver,
  version: "1",
  capacity,
});

/** What a host says of its machine, in MiB. */
interface HostSize {
  readonly cpus?: number;
  readonly memory?: number;
  readonly vmMemory?: number;
}

/** Joins as a host, enrolled anew unless `serviceId` is given, and takes the welcome. */
export async function joinHost(
  options: { serviceId?: string; id?: string; url?: string; capacity?: number; driver?: string; size?: HostSize } = {},
) {
  const id = options.id ?? freshName();
  const serviceId = options.serviceId ?? (await newService({ kind: "host", hostId: id })).serviceId;
  const feed = await openFeed(serviceId);
  feed.send({ ...hostHello(id, options.url, options.capacity, options.driver), ...options.size });
  const welcome = await feed.next();
  return { id, serviceId, feed, welcome };
}

/** Fails after a deadline instead of hanging. */
export async function withDeadline<T>(promise: Promise<T>, message: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | null = null;
  const deadline = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(message)), DEADLINE_MS);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

/** Asks again and again until the answer is true; fails after a deadline. */
export async function until(condition: () => Promise<boolean>, message: string): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(message);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function readMessage(text: string): FeedDownstream | string {
  return text.startsWith("{") ? (JSON.parse(text) as FeedDownstream) : text;
}
