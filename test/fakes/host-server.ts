import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestProject } from "vitest/node";
import "./provided.ts";
import type { MachineState } from "../../protocol/host-api.ts";

/**
 * What the host does to the next request of an operation: `fail` answers a failure, `hold` waits to be released and then
 * obeys, `drop` breaks the connection, `obey-and-drop` breaks it after doing as asked, `garble` answers no JSON, `redirect`
 * sends the caller elsewhere, `stay` changes nothing and answers the state.
 */
interface Script {
  readonly op: string;
  readonly act: "fail" | "hold" | "drop" | "obey-and-drop" | "garble" | "redirect" | "stay";
  readonly status?: number;
  readonly failure?: { readonly kind: string; readonly message: string };
}

interface Vm {
  state: MachineState;
  readonly scripts: Script[];
  readonly calls: { op: string; ticket: string; body: string }[];
  release: (() => void)[];
}

const vms = new Map<string, Vm>();
let clock = Date.now();

/** Starts a host over real HTTP whose VMs do as each test scripts them; tests share it but never a VM. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = createServer((request, response) => {
    serve(request, response).catch((error) => response.destroy(error));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  project.provide("hostUrl", `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  return () =>
    new Promise((resolve) => {
      server.closeAllConnections();
      server.close(() => resolve());
    });
}

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await readBody(request);
  const [, first = "", id = "", verb = ""] = (request.url ?? "").split("/");
  const vm = vms.get(id) ?? { state: "missing", scripts: [], calls: [], release: [] };
  vms.set(id, vm);
  if (first === "control") control(vm, request.method ?? "", verb, body, response);
  else await operate(vm, operationOf(request.method ?? "", verb), request.headers.authorization ?? "", body, response);
}

function control(vm: Vm, method: string, verb: string, body: string, response: ServerResponse): void {
  if (method === "POST" && verb === "script") vm.scripts.push(JSON.parse(body) as Script);
  if (method === "POST" && verb === "state") vm.state = JSON.parse(body) as MachineState;
  if (method === "POST" && verb === "release") {
    for (const release of vm.release.splice(0)) release();
  }
  answer(response, 200, { state: vm.state, calls: vm.calls, held: vm.release.length });
}

async function operate(vm: Vm, op: string, authorization: string, body: string, response: ServerResponse): Promise<void> {
  vm.calls.push({ op, ticket: authorization.replace(/^Bearer /, ""), body });
  const index = vm.scripts.findIndex((script) => script.op === op);
  const [script] = index === -1 ? [] : vm.scripts.splice(index, 1);
  if (script?.act === "fail") return answer(response, script.status ?? 500, script.failure);
  if (script?.act === "garble") return void response.writeHead(200).end("<html>not a host</html>");
  if (script?.act === "redirect") return void response.writeHead(302, { location: "/control/elsewhere" }).end();
  if (script?.act === "drop") return void response.destroy();
  if (script?.act === "hold") await new Promise<void>((resolve) => vm.release.push(resolve));
  if (script?.act !== "stay") vm.state = stateAfter(vm.state, op);
  if (script?.act === "obey-and-drop") return void response.destroy();
  clock = Math.max(clock + 1, Date.now());
  answer(response, 200, { state: vm.state, at: clock });
}

function stateAfter(state: MachineState, op: string): MachineState {
  if (op === "create" || op === "start") return "running";
  if (op === "stop") return "stopped";
  if (op === "suspend") return "suspended";
  return op === "delete" ? "missing" : state;
}

function operationOf(method: string, verb: string): string {
  if (method === "PUT") return verb === "" ? "create" : verb;
  if (method === "DELETE") return verb === "" ? "delete" : `delete-${verb}`;
  return method === "GET" ? "read" : verb;
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

async function readBody(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request) text += chunk;
  return text;
}
