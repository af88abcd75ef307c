import { type AddressInfo, connect, createServer } from "node:net";

/** `node bare-relay.ts HOST PORT` copies bytes between whoever connects and that address; prints the port that it listens on. */
const [host = "", port = ""] = process.argv.slice(2);

const server = createServer({ noDelay: true, allowHalfOpen: true }, (near) => {
  const far = connect({ host, port: Number(port), noDelay: true, allowHalfOpen: true });
  near.pipe(far).pipe(near);
  near.on("error", () => far.destroy());
  far.on("error", () => near.destroy());
});
server.listen(0, "127.0.0.1", () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`));
