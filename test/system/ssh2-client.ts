import ssh2 from "ssh2";
import { onTestFinished } from "vitest";

/** Node's ssh2, logged in; until the test is over. Rejects with what the login fails for. */
export async function ssh2Client(config: ssh2.ConnectConfig): Promise<ssh2.Client> {
  const client = new ssh2.Client();
  onTestFinished(() => {
    client.end();
  });
  await new Promise<void>((resolve, reject) => {
    client.on("ready", resolve).on("error", reject);
    client.connect(config);
  });
  return client;
}
