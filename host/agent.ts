import { createServer, type Server } from "node:http";
import { type AddressInfo, Socket } from "node:net";
import { getRequestListener } from "@hono/node-server";
import manifest from "../package.json" with { type: "json" };
import type { Clock, RandomBytes } from "../protocol/bytes.ts";
import type { MachineStatus } from "../protocol/host-api.ts";
import { hostAudience } from "../protocol/ticket.ts";
import { openCredential } from "../service/credential.ts";
import { EdgeClient } from "../service/edge-client.ts";
import type { LiveSessions } from "../service/live-sessions.ts";
import type { Log } from "../service/log.ts";
import { joinRegion, type Membership } from "../service/membership.ts";
import { messageOf } from "../service/message-of.ts";
import { serveMetrics } from "../service/metrics-server.ts";
import { Accounts } from "./accounts.ts";
import { diskRoomOf } from "./disk-room.ts";
import type { Driver, Progress } from "./driver.ts";
import { Exec } from "./exec.ts";
import { Files } from "./files.ts";
import { Gate } from "./gate.ts";
import { GuestHttp } from "./guest-http/guest-http.ts";
import { GuestSsh } from "./guest-ssh.ts";
import { keepHostId } from "./host-id.ts";
import { HostMetrics } from "./host-metrics.ts";
import { IdleWatch } from "./idle.ts";
import { Jobs } from "./jobs.ts";
import { PublishedKeys } from "./keys.ts";
import { hostSize, LoadReporter, measureLoad } from "./load.ts";
import { Machines } from "./machines.ts";
import { startMetadataServer } from "./metadata.ts";
import { execLimits, guestHttpLimits, guestLimits, httpOptions, jobLimits, uploadLimits, watchLimits } from "./part-limits.ts";
import { RecordStore } from "./records.ts";
import { createHostApp } from "./server.ts";
import { Services } from "./services.ts";
import { type HostSettings, listenAddress } from "./settings.ts";
import { Snapshots } from "./snapshots.ts";
import { StateReporter } from "./state-reporter.ts";
import { createTerminals, createUpgrades, watchLiveSessions } from "./terminals/setup.ts";
import { Tunnels } from "./tunnel.ts";
import { TunnelRegister } from "./tunnel-register.ts";
import { UploadStore } from "./uploads/upload-store.ts";
import { Uploads } from "./uploads/uploads.ts";
import { Watches } from "./watch/watches.ts";

export interface HostAgentOptions {
  readonly settings: HostSettings;
  readonly driver: Driver;
  readonly log: Log;
  readonly clock: Clock;
  readonly randomBytes: RandomBytes;
  /** Told what a long start is doing. */
  readonly progress?: Progress;
  /** Port of the guests' sshd. 22 unless a test runs its own. */
  readonly guestSshPort?: number;
  /** Aborting gives up a start that is under way: everything begun is undone, and `startHostAgent` rejects. */
  readonly signal?: AbortSignal;
}

export interface HostAgent {
  readonly id: string;
  /** Base URL that the region gives to the edge and to forwarders. */
  readonly url: string;
  /** Takes no new work, ends what runs, stops every machine, and leaves the region. Repeating it changes nothing. */
  close(): Promise<void>;
}

/** While closing: between two looks for HTTP connections that have become idle. */
const IDLE_SWEEP_MS = 50;

type Closer = () => Promise<void> | void;

/** Starts a host agent. Resolves when it has joined its region and serves; undoes everything if any step fails. */
export async function startHostAgent(options: HostAgentOptions): Promise<HostAgent> {
  const closers: Closer[] = [];
  const closeAll = async () => {
    for (const close of closers.splice(0).reverse()) {
      try {
        await close();
      } catch (error) {
        options.log.error("a part did not close", { error: messageOf(error) });
      }
    }
  };
  try {
    return await start(options, closers, closeAll);
  } catch (error) {
    await closeAll();
    throw error;
  }
}

async function start(options: HostAgentOptions, closers: Closer[], closeAll: () => Promise<void>): Promise<HostAgent> {
  const { settings, driver, log, clock, randomBytes, signal } = options;
  const id = keepHostId(settings.POSTERN_HOST_STATE, randomBytes);
  let membership: Membership | null = null;
  let live: LiveSessions | null = null;
  let closing = false;
  let draining = false;
  let states: StateReporter | null = null;
  const report = (vm: string, status: MachineStatus) => states?.note(vm, status);

  closers.push(() => membership?.close());
  closers.push(() => states?.close());
  closers.push(() => driver.close());
  await unlessAborted(driver.open(options.progress ?? (() => undefined)), signal);

  const keys = new PublishedKeys(clock, settings.POSTERN_KEY_LIFETIME_MS);
  const metadata = await startMetadataServer({
    address: driver.gatewayAddress,
    port: settings.POSTERN_METADATA_PORT,
    vmAtAddress: (address) => driver.vmAtAddress(address),
    keys,
    headersTimeoutMs: settings.POSTERN_HEADERS_TIMEOUT_MS,
    log,
  });
  closers.push(() => metadata.close());
  await driver.routeMetadata(metadata.port);

  const guests = new GuestSsh(keys, guestLimits(settings), randomBytes, log);
  closers.push(() => guests.close());
  const accounts = new Accounts(guests);
  const terminals = createTerminals(settings, {
    guests,
    accounts,
    clock,
    randomBytes,
    log,
    onActivity: (vmId) => idle.note(vmId),
  });
  closers.push(() => terminals.shutDown());
  const exec = new Exec(accounts, execLimits(settings), randomBytes);
  const files = new Files(accounts, exec, {
    maxBytes: settings.POSTERN_FILE_BYTES,
    idleMs: settings.POSTERN_BODY_IDLE_MS,
    randomBytes,
  });
  const idle = new IdleWatch(clock, {
    tunnelBytes: settings.POSTERN_IDLE_TUNNEL_BYTES,
    glanceMs: settings.POSTERN_IDLE_GLANCE_MS,
  });
  const disk = diskRoomOf(settings, driver, log);
  const snapshots = new Snapshots({ stateDir: settings.POSTERN_HOST_STATE, driver, disk, clock, log });
  const metrics = new HostMetrics({
    states: () => machines.all().map((machine) => machine.status().state),
    visits: () => guestHttp.open,
    isFeedFresh: () => membership?.verifier.isFeedFresh() ?? false,
    isDraining: () => draining,
    isDiskFull: () => disk.wasFull,
  });
  const machines = new Machines({
    driver,
    store: new RecordStore(settings.POSTERN_HOST_STATE),
    accounts,
    files,
    snapshots,
    idle,
    capacity: settings.POSTERN_HOST_CAPACITY,
    disk,
    isDraining: () => draining,
    ready: { timeoutMs: settings.POSTERN_WAKE_TIMEOUT_MS, pollMs: settings.POSTERN_WAKE_POLL_MS },
    sshPort: options.guestSshPort ?? 22,
    clock,
    randomBytes,
    log,
    report: (vm, status) => {
      report(vm, status);
      metrics.states({ state: status.state });
      terminals.machineChanged(vm, status.state);
    },
  });
  await machines.restore();
  const idleSweep = setInterval(() => void machines.suspendIdle(), settings.POSTERN_IDLE_SWEEP_MS);
  closers.push(() => clearInterval(idleSweep));

  const uploads = new Uploads({
    accounts,
    store: new UploadStore(settings.POSTERN_HOST_STATE),
    limits: uploadLimits(settings),
    clock,
    randomBytes,
  });
  const uploadSweep = setInterval(() => void uploads.sweep(machines), settings.POSTERN_UPLOAD_SWEEP_MS);
  closers.push(() => clearInterval(uploadSweep));

  const gate = new Gate(() => (closing ? null : (membership?.verifier ?? null)));
  const tunnelRegister = new TunnelRegister(clock, settings.POSTERN_TUNNEL_END_KEEP_MS);
  const tunnels = new Tunnels({
    gate,
    machines,
    accounts,
    keys,
    idle,
    register: tunnelRegister,
    randomBytes,
    log,
    limits: {
      perVm: settings.POSTERN_VM_TUNNELS,
      connectTimeoutMs: settings.POSTERN_TUNNEL_CONNECT_TIMEOUT_MS,
      keepaliveMs: settings.POSTERN_TUNNEL_KEEPALIVE_MS,
      heldBytes: settings.POSTERN_TUNNEL_HELD_BYTES,
      settleMs: settings.POSTERN_TUNNEL_SETTLE_MS,
    },
  });
  const upgrades = createUpgrades(settings, { gate, machines, terminals, live: () => live, log });
  const jobs = new Jobs(settings.POSTERN_HOST_STATE, jobLimits(settings), clock, log);
  closers.push(() => jobs.close());
  if (settings.POSTERN_HOST_METRICS_LISTEN !== undefined) {
    const served = await serveMetrics(listenAddress(settings.POSTERN_HOST_METRICS_LISTEN), metrics.registry);
    closers.push(() => served.close());
  }
  const app = createHostApp({
    metrics,
    gate,
    machines,
    exec,
    jobs,
    terminals,
    services: new Services(accounts),
    snapshots,
    idle,
    tunnelRegister,
    files,
    uploads,
    watches: new Watches({ guests, files, limits: watchLimits(settings) }),
    live: () => live,
    jsonBytes: settings.POSTERN_HOST_JSON_BYTES,
    log,
  });
  const guestHttp = new GuestHttp({ gate, machines, idle, live: () => live, clock, log, limits: guestHttpLimits(settings) });
  const answerOperation = getRequestListener(app.fetch);
  const server = createServer(httpOptions(settings), (request, response) => {
    void (guestHttp.owns(request) ? guestHttp.handle(request, response) : answerOperation(request, response));
  });
  server.on("connect", (request, socket, head) => {
    // Always a socket where the server speaks plain HTTP; Node types it wider for servers of other streams.
    if (socket instanceof Socket) void tunnels.handle(request, socket, head);
    else socket.destroy();
  });
  server.on("upgrade", (request, socket, head) => {
    if (socket instanceof Socket) void (guestHttp.owns(request) ? guestHttp : upgrades).upgrade(request, socket, head);
    else socket.destroy();
  });
  const url = await listen(server, settings);
  closers.push(async () => {
    closing = true;
    const closed = new Promise((resolve) => server.close(resolve));
    for (const machine of machines.all()) machine.release();
    tunnels.close();
    upgrades.close();
    guestHttp.close();
    live?.close();
    const cut = setTimeout(() => server.closeAllConnections(), settings.POSTERN_CLOSE_GRACE_MS);
    // A connection turns idle when its last answer is sent, which the server itself does not look at again.
    const sweep = setInterval(() => server.closeIdleConnections(), IDLE_SWEEP_MS);
    await closed;
    clearTimeout(cut);
    clearInterval(sweep);
  });

  const countRunning = () => machines.all().filter((machine) => machine.status().state === "running").length;
  const load = new LoadReporter(
    () => measureLoad(disk, countRunning()),
    (told) => membership?.report(told),
    log,
  );
  const loadSweep = setInterval(() => void load.tell(false), settings.POSTERN_LOAD_SWEEP_MS);
  closers.push(() => clearInterval(loadSweep));
  const credential = await openCredential({
    stateDir: settings.POSTERN_HOST_STATE,
    edgeUrl: settings.POSTERN_EDGE_URL,
    secretFile: settings.POSTERN_SERVICE_KEY_FILE,
    applicant: { kind: "host", hostId: id },
    clock,
    randomBytes,
    log,
    timeoutMs: settings.POSTERN_EDGE_TIMEOUT_MS,
    retryMs: settings.POSTERN_ENROL_RETRY_MS,
    ...(signal === undefined ? {} : { signal }),
  });
  membership = await joinRegion({
    edgeUrl: settings.POSTERN_EDGE_URL,
    credential,
    hello: {
      type: "hello",
      role: "host",
      id,
      url,
      driver: driver.name,
      version: manifest.version,
      capacity: settings.POSTERN_HOST_CAPACITY,
      ...hostSize(),
      ...(driver.defaultResources.memory === undefined ? {} : { vmMemory: driver.defaultResources.memory }),
    },
    audience: () => hostAudience(id),
    clock,
    log,
    onFloor: (floor) => live?.onFloor(floor),
    onDoubt: () => live?.recheckAll(),
    onWelcome: () => void load.tell(true),
    onDrain: (wanted) => {
      draining = wanted;
    },
    ...(signal === undefined ? {} : { signal }),
  });
  const edge = new EdgeClient({
    edgeUrl: settings.POSTERN_EDGE_URL,
    credential,
    timeoutMs: settings.POSTERN_EDGE_TIMEOUT_MS,
    log,
  });
  live = watchLiveSessions(settings, { source: edge, verifier: membership.verifier, clock, log });
  // The first welcome came before there was a membership to report through.
  void load.tell(true);
  states = new StateReporter({
    receiver: edge,
    retryMs: settings.POSTERN_STATES_RETRY_MS,
    retryMaxMs: settings.POSTERN_STATES_RETRY_MAX_MS,
    closeMs: settings.POSTERN_CLOSE_GRACE_MS,
    random: Math.random,
  });
  for (const machine of machines.all()) report(machine.vmId, machine.status());
  // Runs between `driver.close` and telling the last states: closers run backwards.
  closers.splice(2, 0, () => {
    for (const machine of machines.all()) machine.noteStopped();
  });
  log.info("host serves", { id, url, driver: driver.name });
  return { id, url, close: closeAll };
}

async function listen(server: Server, settings: HostSettings): Promise<string> {
  const { address, port } = listenAddress(settings.POSTERN_HOST_LISTEN);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, address, () => {
      server.off("error", reject);
      resolve();
    });
  });
  const bound = server.address() as AddressInfo;
  const host = bound.family === "IPv6" ? `[${bound.address}]` : bound.address;
  return settings.POSTERN_HOST_PUBLIC_URL ?? `http://${host}:${bound.port}`;
}

function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const give = () => reject(new Error("the start was given up"));
    if (signal.aborted) give();
    signal.addEventListener("abort", give, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", give));
  });
}
