import { setPriority } from "node:os";
import { ATTACKS, type Attack, BEGIN } from "./attacks.ts";

/** `node attack.ts <attack> <host> <port> <vm> <token>`: says "begun" once it has, and goes on until it is killed. */
async function main([attack, host = "", port = "", vmId = "", token = ""]: string[]): Promise<void> {
  if (!isAttack(attack)) throw new Error(`an attack is one of ${ATTACKS.join(", ")}`);
  // What is asked is what the forwarder lets them do to others, not whether they take the machine's cores.
  setPriority(10);
  await BEGIN[attack]({ host, port: Number(port), vmId, token });
  console.log("begun");
}

function isAttack(word: string | undefined): word is Attack {
  return ATTACKS.some((attack) => attack === word);
}

await main(process.argv.slice(2));
