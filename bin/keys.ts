import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { ApiClient } from "./operator.ts";
import { homeFromEnvironment, readDevJson } from "./start/home.ts";
import { asksForHelp, UsageError } from "./usage.ts";

const USAGE = `postern keys account <name>                 make an account and its first API key
postern keys api <account-id> [name]        make another API key
postern keys api-revoke <account-id> <key-id>
postern keys join <region> host [host-id]   make a join token: one host enrols with it, the one of that id if named
postern keys join <region> forwarder        the same for one forwarder
postern keys services <region>              the hosts and forwarders that are enrolled
postern keys retire <region> <service-id>   revoke one of them
postern keys service <region> [name]        make a service key: any number of hosts and forwarders enrol with it
postern keys service-revoke <region> <key-id>   revoke it and everything that enrolled with it
postern keys tickets rotate                 publish a new ticket key, which signs a few minutes later
postern keys tickets void                   a ticket key got into wrong hands: withdraw all of them, and every ticket, now

The edge is --url, else the system that runs from POSTERN_HOME. The operator's key is read from
--operator-key-file, else from POSTERN_HOME/operator.key. A key is shown once.`;

/** `postern keys …`: the operator's routes from a shell. */
export async function runKeys(args: readonly string[], env: NodeJS.ProcessEnv, say: (text: string) => void): Promise<void> {
  if (asksForHelp(args)) throw new UsageError(USAGE);
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { url: { type: "string" }, "operator-key-file": { type: "string" } },
  });
  const request = requestFor(positionals);
  if (request === null) throw new UsageError(USAGE);
  const home = homeFromEnvironment(env);
  const url = values.url ?? readDevJson(home, "name the edge by --url").apiUrl;
  const key = readFileSync(values["operator-key-file"] ?? home.operatorKey, "utf8").trim();
  const answer = await new ApiClient(url, key).request<unknown>(request.method, request.path, request.body);
  say(JSON.stringify(answer, null, 2));
}

function requestFor([kind, owner, extra, hostId]: readonly string[]): { method: string; path: string; body?: unknown } | null {
  if (kind === undefined || owner === undefined) return null;
  const name = encodeURIComponent(owner);
  switch (kind) {
    case "account":
      return { method: "POST", path: "/operator/v1/accounts", body: { name: owner } };
    case "api":
      return { method: "POST", path: `/operator/v1/accounts/${name}/api-keys`, body: { name: extra ?? null } };
    case "service":
      return { method: "POST", path: `/operator/v1/regions/${name}/service-keys`, body: { name: extra ?? null } };
    case "tickets":
      return owner === "rotate" || owner === "void" ? { method: "POST", path: `/operator/v1/signing-keys/${owner}` } : null;
    case "join":
      if (extra === "host") return joinToken(name, { kind: extra, hostId: hostId ?? null });
      return extra === "forwarder" && hostId === undefined ? joinToken(name, { kind: extra }) : null;
    case "services":
      return { method: "GET", path: `/operator/v1/regions/${name}/services` };
    case "retire":
      return extra === undefined
        ? null
        : { method: "DELETE", path: `/operator/v1/regions/${name}/services/${encodeURIComponent(extra)}` };
    case "api-revoke":
      return extra === undefined
        ? null
        : { method: "DELETE", path: `/operator/v1/accounts/${name}/api-keys/${encodeURIComponent(extra)}` };
    case "service-revoke":
      return extra === undefined
        ? null
        : { method: "DELETE", path: `/operator/v1/regions/${name}/service-keys/${encodeURIComponent(extra)}` };
    default:
      return null;
  }
}

function joinToken(region: string, body: object): { method: string; path: string; body: object } {
  return { method: "POST", path: `/operator/v1/regions/${region}/join-tokens`, body };
}
