import { z } from "zod";
import { type Result, success } from "../../protocol/failures.ts";

/** 0.1 parses every answer as JSON, so even nothing is an object. */
export const nothing = z.object({});

/** A list that is always empty here, though the SDKs know rows of it. */
export const emptyList = z.array(z.unknown()).max(0);

/** Translates a success and passes a failure on. */
export function mapped<From, To>(result: Result<From>, translate: (value: From) => To): Result<To> {
  return result.ok ? success(translate(result.value)) : result;
}

/** RFC 3339 in UTC. */
export function isoTime(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
