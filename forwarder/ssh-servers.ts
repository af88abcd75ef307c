import ssh2 from "ssh2";
import type { Log } from "../service/log.ts";
import { clientAlgorithms } from "./algorithms.ts";
import type { ForwarderState } from "./host-keys.ts";
import type { ForwarderSettings } from "./settings.ts";
import { CertificateOffer, keepRightGuesses } from "./ssh2-handshake.ts";

/**
 * What the server says that it is (RFC 4253 section 4.2): what answers after the login is the VM's OpenSSH, and clients behave by
 * this name. See docs/decisions/0008-openssh-by-name.md.
 */
export const SOFTWARE = "OpenSSH_9.2 Postern";

const OPENSSH = /^SSH-2\.0-OpenSSH_/;

/**
 * The SSH servers behind one port. They differ in the ciphers that they offer: the client's order decides (RFC 4253 section
 * 7.1), and OpenSSH's puts slower ones before GCM, which every OpenSSH of the last ten years has. Others may not have it at all.
 */
export class SshServers {
  readonly #forOpenSsh: ssh2.Server;
  readonly #forOthers: ssh2.Server;

  /** `identified` is called with each connection before its first key exchange. */
  constructor(
    state: ForwarderState,
    settings: Pick<ForwarderSettings, "POSTERN_SSH_CIPHERS" | "POSTERN_SSH_OPENSSH_CIPHERS">,
    identified: (ssh: ssh2.Connection) => void,
    log: Log,
  ) {
    const make = (ciphers: readonly ssh2.CipherAlgorithm[]) => {
      const certificates = new CertificateOffer(state.certificates);
      const server = new ssh2.Server(
        { hostKeys: [...state.hostKeys], ident: SOFTWARE, algorithms: clientAlgorithms(ciphers) },
        (ssh) => {
          certificates.apply(ssh);
          keepRightGuesses(ssh);
          identified(ssh);
        },
      );
      server.on("error", (error: Error) => log.error("ssh server failed", { error: error.message }));
      return server;
    };
    this.#forOpenSsh = make(settings.POSTERN_SSH_OPENSSH_CIPHERS);
    this.#forOthers = make(settings.POSTERN_SSH_CIPHERS);
  }

  /** The server for a client that identified itself by this line. */
  for(identification: string): ssh2.Server {
    return OPENSSH.test(identification) ? this.#forOpenSsh : this.#forOthers;
  }
}
