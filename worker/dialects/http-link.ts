import { z } from "zod";
import { mintHttpLink } from "../services/http-links.ts";
import { vmEndpoint } from "./endpoint.ts";
import { isoTime, mapped } from "./translate.ts";

const body = z.strictObject({
  port: z.int().min(1).max(65535).nullish(),
  path: z.string().startsWith("/").max(2048).default("/"),
  expiresInSeconds: z.int().positive().nullish(),
});

/** Both dialects mint signed links alike: no SDK knows this route. `expiresAt`: RFC 3339 in UTC. */
export function httpLinkEndpoint(version: "v1" | "v5") {
  return vmEndpoint("http", {
    method: "post",
    path: `/${version}/vms/{vmId}/http-link`,
    summary: "Mint a signed link to the VM's own name, for browsers",
    body,
    answer: z.object({ url: z.string(), expiresAt: z.string() }),
    handle: async (edge, authority, { body: wish, request }) => {
      const { port = null, path, expiresInSeconds: lifeS = null } = wish;
      return mapped(await mintHttpLink(edge, authority, { port, path, lifeS }, request), ({ url, expiresAt }) => ({
        url,
        expiresAt: isoTime(expiresAt),
      }));
    },
  });
}
