import type { ZodType, z } from "zod";
import type { FailureKind, Result } from "../../protocol/failures.ts";
import type { IMAGE_USER } from "../../protocol/linux-user.ts";
import type { Operation } from "../../protocol/operations.ts";
import type { AccountPrincipal, Principal } from "../auth/principal.ts";
import type { Edge } from "../edge.ts";
import type { HostCaller } from "../hosts/host-caller.ts";
import type { Authority, FreshAuthority } from "../services/authorise.ts";
import type { Settings } from "../settings.ts";

export type Method = "get" | "put" | "post" | "patch" | "delete";

/** Names of the `{…}` segments of a path. */
type PathNames<Path extends string> = Path extends `${string}{${infer Name}}${infer Rest}` ? Name | PathNames<Rest> : never;

/** What an endpoint is given once its caller was let in: path segments decoded once, the rest as its schemas read it. */
export interface Input<Path extends string, Query, Body> {
  readonly path: Readonly<Record<PathNames<Path>, string>>;
  readonly query: Query;
  readonly body: Body;
  /** The request itself, for an endpoint that streams its body. */
  readonly request: Request;
}

interface Shape<Path extends string, Query, Body> {
  readonly method: Method;
  readonly path: Path;
  /** One line for the API description. */
  readonly summary: string;
  readonly query?: ZodType<Query>;
  readonly body?: ZodType<Body>;
  /** What the API description shows of the body, where the schema that checks it finds out for itself what it may hold. */
  readonly shownBody?: ZodType;
  /**
   * Whether a body is one of the common ones that the schema is known to take as they are, so that it need not be asked: a schema costs a
   * request as much as finding its verdict.
   */
  readonly isPlainBody?: (body: unknown) => boolean;
  /** How a body that does not fit the schema fails; `bad-request` when absent. */
  readonly invalidBody?: FailureKind;
  /** Most bytes of the body; the limit of JSON bodies when absent. */
  readonly maxBodyBytes?: (settings: Settings) => number;
  /**
   * Where the Linux user is named, for dialects that put it in the body or the query; then the input is read before the
   * caller is authorised. When absent, the header of 0.1 names it.
   */
  readonly linuxUser?: (input: { readonly query: Query; readonly body: Body }) => string | null;
  /** Who is meant when no Linux user is named: root when absent. */
  readonly unnamedUser?: typeof IMAGE_USER;
  /** Shape of a success. An endpoint that streams answers a `Response` itself; `z.void()` is 204 without a body. */
  readonly answer: ZodType;
}

/** Who may call, and with what an endpoint decides on the rest. */
export type Admission =
  /** Only an API key. */
  | { readonly access: "account" }
  /** An API key or an access token. */
  | { readonly access: "principal" }
  /**
   * An API key of the VM's account, or an access token that was granted this operation on the VM `{vmId}`. Only what is
   * forwarded may go by a cached verdict.
   */
  | { readonly access: "vm"; readonly operation: Operation; readonly isForwarded: boolean }
  /** The same for a WebSocket, and whoever shows a client's ticket for the operation. The answer is the host's upgrade. */
  | { readonly access: "vm-socket"; readonly operation: Operation };

/** An endpoint with its types erased, as the router and the API description take it. */
export interface Endpoint extends Shape<string, unknown, unknown> {
  readonly admission: Admission;
  handle(edge: Edge, caller: unknown, input: Input<string, unknown, unknown>): Promise<Result<unknown>>;
}

type Handler<Caller, Path extends string, Query, Body> = (
  edge: Edge,
  caller: Caller,
  input: Input<Path, Query, Body>,
) => Promise<Result<unknown>>;

interface Definition<Caller, Path extends string, Query, Body> extends Shape<Path, Query, Body> {
  readonly handle: Handler<Caller, Path, Query, Body>;
}

/** Declares an endpoint for API keys; an access token gets `forbidden`. */
export function accountEndpoint<Path extends string, Query = undefined, Body = undefined>(
  definition: Definition<AccountPrincipal, Path, Query, Body>,
): Endpoint {
  return erase({ access: "account" }, definition);
}

/** Declares an endpoint for anybody with a live credential. */
export function principalEndpoint<Path extends string, Query = undefined, Body = undefined>(
  definition: Definition<Principal, Path, Query, Body>,
): Endpoint {
  return erase({ access: "principal" }, definition);
}

/** Declares an endpoint that does one operation on the VM that its path names as `{vmId}`; the edge itself answers. */
export function vmEndpoint<Path extends `${string}{vmId}${string}`, Query = undefined, Body = undefined>(
  operation: Operation,
  definition: Definition<FreshAuthority, Path, Query, Body>,
): Endpoint {
  return erase({ access: "vm", operation, isForwarded: false }, definition);
}

/** The same where the VM's host answers, who verifies the ticket: the verdict may come from a cache. */
export function forwardedEndpoint<Path extends `${string}{vmId}${string}`, Query = undefined, Body = undefined>(
  operation: Operation,
  definition: Definition<Authority, Path, Query, Body>,
): Endpoint {
  return erase({ access: "vm", operation, isForwarded: true }, definition);
}

/** Declares a WebSocket to the host of the VM that its path names as `{vmId}`. */
export function vmSocketEndpoint<Path extends `${string}{vmId}${string}`, Query = undefined>(
  operation: Operation,
  definition: Definition<HostCaller, Path, Query, undefined>,
): Endpoint {
  return erase({ access: "vm-socket", operation }, definition);
}

/** The router gives every handler exactly what its admission and schemas produce, so the types may be forgotten here. */
function erase<Caller, Path extends string, Query, Body>(
  admission: Admission,
  definition: Definition<Caller, Path, Query, Body>,
): Endpoint {
  return { ...(definition as unknown as Omit<Endpoint, "admission">), admission };
}

/** The parsed form of a schema. */
export type Parsed<Schema extends ZodType> = z.output<Schema>;
