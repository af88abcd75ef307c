import { once } from "node:events";
import { createServer } from "node:http";
import type { Metrics } from "./metrics.ts";

/** Where the metrics are served, and how to end it. */
export interface MetricsServer {
  readonly port: number;
  close(): void;
}

/** Serves `GET /metrics`. For a private address: it asks nobody who they are. Rejects with the error of listening. */
export async function serveMetrics(listen: { address: string; port: number }, metrics: Metrics): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    if (request.method !== "GET" || request.url !== "/metrics") {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" }).end(metrics.render());
  });
  server.listen({ port: listen.port, ...(listen.address === "" ? {} : { host: listen.address }) });
  await once(server, "listening");
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new Error("the metrics listener has no address");
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { port: bound.port, close };
}
