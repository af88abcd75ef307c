import { messageOf } from "../service/message-of.ts";
import { runForwarder } from "./main.ts";

// A worker whose parent is gone has nobody to stop it.
const orphaned = () => process.kill(process.pid, "SIGTERM");
process.on("disconnect", orphaned);
try {
  await runForwarder(process.env);
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n`);
  process.exitCode = 1;
}
process.off("disconnect", orphaned);
process.disconnect?.();
