import { setPriority } from "node:os";
import { ATTACKS, type Attack, BEGIN } from "./attacks.ts";

/**
 * `node attack.ts <attack> <host> <port> <vm> <token>`: prints 0 once it has begun and goes on until SIGTERM, at which it prints
 * how many steps it has taken since.
 */
async function main([attack, host = "", port = "", vmId = "", token = ""]: string[]): Promise<void> {
  if (!isAttack(attack)) throw new Error(`an attack is one of ${ATTACKS.join(", ")}`);
  // What is asked is what the forwarder lets them do to others, not whether they take the machine's cores.
  setPriority(10);
  let steps = 0;
  const step = () => {
    steps += 1;
  };
  await BEGIN[attack]({ host, port: Number(port), vmId, token, step });
  steps = 0;
  process.on("SIGTERM", () => process.stdout.write(`${steps}\n`, () => process.exit()));
  console.log("0");
}

function isAttack(word: string | undefined): word is Attack {
  return ATTACKS.some((attack) => attack === word);
}

await main(process.argv.slice(2));
