import { connect } from "node:net";
import { afterEach, expect, test } from "vitest";
import { readFirstKexinit } from "../../../forwarder/first-kexinit.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
afterEach(() => world.close());

/** The ciphers that `ssh -v` says it uses: for what it gets, and for what it sends. */
async function used(flags: readonly string[]): Promise<string[]> {
  const ended = await world.startSsh(["-v", ...flags, ...world.ssh(`${world.vmId}:${world.token}`, "cat")], { input: "in" }).done;
  expect(ended, ended.stderr).toMatchObject({ code: 0, stdout: Buffer.from("in") });
  return [...ended.stderr.matchAll(/kex: \S+ cipher: (\S+)/g)].map(([, name = ""]) => name);
}

test("an OpenSSH as it comes uses AES-GCM, and one without it whatever it has", async () => {
  world = await openWorld();
  expect(await used([])).toEqual(["aes128-gcm@openssh.com", "aes128-gcm@openssh.com"]);
  for (const name of ["aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr"]) {
    expect(await used(["-c", name])).toEqual([name, name]);
  }
});

test("without AES-GCM in the setting, OpenSSH chooses among the rest", async () => {
  world = await openWorld({ env: { POSTERN_SSH_CIPHERS: "aes128-ctr,aes256-ctr" } });
  expect(await used(["-c", "aes256-gcm@openssh.com,aes256-ctr"])).toEqual(["aes256-ctr", "aes256-ctr"]);
});

test("an OpenSSH that waits for the gateway's offer gets it, with all ciphers, and so does one that begins with something else", async () => {
  world = await openWorld({ env: { POSTERN_SSH_KEXINIT_WAIT_MS: "300" } });
  for (const said of ["SSH-2.0-OpenSSH_waits\r\n", "SSH-2.0-OpenSSH_ignores\r\n\0\0\0\x0c\x06\x02\0\0\0\0\0\0\0\0\0\0"]) {
    const socket = connect(world.port, "127.0.0.1");
    socket.write(said, "latin1");
    let heard = Buffer.alloc(0);
    for await (const chunk of socket) {
      heard = Buffer.concat([heard, chunk as Buffer]);
      const offer = readFirstKexinit(heard.subarray(heard.indexOf("\n") + 1));
      if (offer.kind === "more") continue;
      expect(offer).toMatchObject({ down: expect.arrayContaining(["aes128-gcm@openssh.com", "aes256-ctr"]) });
      break;
    }
  }
});
