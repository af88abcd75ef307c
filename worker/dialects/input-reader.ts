import { strictObject, ZodObject, type ZodType } from "zod";
import { failure, type Result, success } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import { requestLimits } from "../http/body.ts";
import { check, readJson } from "../http/input.ts";
import { readQuery } from "../http/query.ts";
import type { Endpoint, Input } from "./endpoint.ts";

const NO_QUERY = strictObject({});
const NOTHING = success({});

/** The named segments of a path; `isText` is false when one is not percent-encoded UTF-8, and then it is empty. */
export interface PathSegments {
  readonly values: Readonly<Record<string, string>>;
  readonly isText: boolean;
}

/** Reads what requests to one endpoint say. */
export class InputReader {
  readonly #endpoint: Endpoint;
  readonly #names: readonly { readonly name: string; readonly at: number }[];
  readonly #query: ZodType;

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
    this.#names = endpoint.path.split("/").flatMap((part, at) => {
      const name = /^\{(\w+)\}$/.exec(part)?.[1];
      return name === undefined ? [] : [{ name, at }];
    });
    this.#query = knownQuery(endpoint);
  }

  /** The path's named segments, each decoded once. Read as it was sent: a file path is one segment whose slashes arrive as `%2F`. */
  path({ url }: Edge): PathSegments {
    const segments = url.pathname.split("/");
    const values: Record<string, string> = {};
    let isText = true;
    for (const { name, at } of this.#names) {
      const decoded = decodeSegment(segments[at] ?? "");
      values[name] = decoded ?? "";
      isText &&= decoded !== null;
    }
    return { values, isText };
  }

  /** All that the endpoint is given; `bad-request`, or what the endpoint says instead, for what does not fit. */
  async input(edge: Edge, request: Request, path: PathSegments): Promise<Result<Input<string, unknown, unknown>>> {
    if (!path.isText) return failure("bad-request", "The path of the request is not correctly percent-encoded.");
    const query = this.#readQuery(edge.url.search);
    if (!query.ok) return query;
    const body = await this.#body(edge, request);
    return body.ok ? success({ path: path.values, query: query.value, body: body.value, request }) : body;
  }

  #readQuery(search: string): Result<unknown> {
    const { query, admission } = this.#endpoint;
    if (search === "" && query === undefined) return NOTHING;
    const sent = readQuery(search);
    if (sent === null) return failure("bad-request", "The query of the request is not correctly percent-encoded.");
    return check(this.#query, admission.access === "vm-socket" ? withoutTicket(sent) : sent);
  }

  async #body(edge: Edge, request: Request): Promise<Result<unknown>> {
    const { body: schema, isPlainBody, maxBodyBytes, invalidBody } = this.#endpoint;
    if (schema === undefined) return success(undefined);
    const body = await readJson(request, requestLimits(edge, maxBodyBytes?.(edge.settings)), schema, isPlainBody);
    if (body.ok || body.failure.kind !== "bad-request" || invalidBody === undefined) return body;
    return { ok: false, failure: { ...body.failure, kind: invalidBody } };
  }
}

/** The query's schema, which refuses what it does not know: a misspelt filter must not answer everything. */
function knownQuery({ query }: Endpoint): ZodType {
  if (query === undefined) return NO_QUERY;
  return query instanceof ZodObject ? query.strict() : query;
}

/** A ticket in the query is a credential, and no input. */
function withoutTicket({ ticket: _, ...rest }: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return rest;
}

function decodeSegment(segment: string): string | null {
  try {
    return decodeURIComponent(segment);
  } catch {
    return null;
  }
}
