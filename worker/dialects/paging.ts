import { z } from "zod";
import type { Page } from "../../durable-objects/contract.ts";
import type { Settings } from "../settings.ts";

/** Query of a list. `offset` counts rows from zero; without `limit` a page is as long as the deployment allows. */
export const pageQuery = z.object({
  offset: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).optional(),
});

export type PageQuery = z.output<typeof pageQuery>;

/** A flag in a query: `true` or `false`. */
export const flagQuery = z
  .enum(["true", "false"])
  .default("false")
  .transform((text) => text === "true");

export function pageOf(query: PageQuery, settings: Settings): Page {
  return { offset: query.offset, limit: Math.min(query.limit ?? settings.MAX_PAGE_SIZE, settings.MAX_PAGE_SIZE) };
}
