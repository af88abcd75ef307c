import { subscribe } from "node:diagnostics_channel";
import { Agent, ClientRequest, type IncomingMessage } from "node:http";
import Docker from "dockerode";

/** Connections to an engine on which an answer that breaks off fails its request. */
class EngineAgent extends Agent {
  constructor() {
    super({ keepAlive: true });
  }
}

// docker-modem waits for the end of an answer only, and for ever where the engine is killed in the middle of one. This is the one public
// way to a request that a library makes (Node.js, `diagnostics_channel`, built-in channels of http).
subscribe("http.client.request.start", (message) => {
  const request = typeof message === "object" && message !== null && "request" in message ? message.request : null;
  if (!(request instanceof ClientRequest) || !("agent" in request) || !(request.agent instanceof EngineAgent)) return;
  request.once("response", (response: IncomingMessage) => {
    response.once("close", () => {
      if (!response.complete) request.emit("error", new Error("the engine's answer broke off"));
    });
  });
});

/** A client of the Docker-compatible API on a unix socket, whose requests reject when nothing comes for `timeoutMs` milliseconds. */
export function engineClient(socketPath: string, timeoutMs: number): Docker {
  // Passed on to docker-modem, though its type does not say so.
  const options = { socketPath, timeout: timeoutMs, agent: new EngineAgent() };
  return new Docker(options);
}
