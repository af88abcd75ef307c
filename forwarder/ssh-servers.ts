import ssh2 from "ssh2";
import type { Log } from "../service/log.ts";
import { clientAlgorithms } from "./algorithms.ts";
import type { FirstKexinit } from "./first-kexinit.ts";
import type { ForwarderState } from "./host-keys.ts";
import type { ForwarderSettings } from "./settings.ts";
import { CertificateOffer, keepRightGuesses } from "./ssh2-handshake.ts";
import { HybridOffer } from "./ssh2-hybrid-kex.ts";

/**
 * What the server says that it is (RFC 4253 section 4.2): what answers after the login is the VM's OpenSSH, and clients behave by
 * this name. See docs/decisions/0008-openssh-by-name.md.
 */
export const SOFTWARE = "OpenSSH_9.2 Postern";

const OPENSSH = /^SSH-2\.0-OpenSSH_/;

const GCM = /-gcm@/;

/**
 * The SSH servers behind one port. They differ in the ciphers that they offer: the client's order decides (RFC 4253 section
 * 7.1), and OpenSSH's puts slower ones before AES-GCM. So an OpenSSH that has AES-GCM is offered nothing else.
 */
export class SshServers {
  readonly #withAll: ssh2.Server;
  readonly #withGcm: ssh2.Server | null;
  readonly #gcm: readonly string[];

  /** `identified` is called with each connection before its first key exchange. */
  constructor(
    state: ForwarderState,
    settings: Pick<ForwarderSettings, "POSTERN_SSH_CIPHERS">,
    identified: (ssh: ssh2.Connection) => void,
    log: Log,
  ) {
    const make = (ciphers: readonly ssh2.CipherAlgorithm[]) => {
      const certificates = new CertificateOffer(state.certificates);
      const hybrid = new HybridOffer();
      const server = new ssh2.Server(
        { hostKeys: [...state.hostKeys], ident: SOFTWARE, algorithms: clientAlgorithms(ciphers) },
        (ssh) => {
          hybrid.apply(ssh);
          certificates.apply(ssh);
          keepRightGuesses(ssh);
          identified(ssh);
        },
      );
      server.on("error", (error: Error) => log.error("ssh server failed", { error: error.message }));
      return server;
    };
    const all = settings.POSTERN_SSH_CIPHERS;
    const gcm = all.filter((name) => GCM.test(name));
    this.#withAll = make(all);
    this.#withGcm = gcm.length === 0 ? null : make(gcm);
    this.#gcm = gcm;
  }

  /** Whether what is offered to a client that identified itself by this line depends on its KEXINIT. */
  dependsOnKexinit(identification: string): boolean {
    return this.#withGcm !== null && OPENSSH.test(identification);
  }

  /** The server for a client whose KEXINIT says this; null for one whose KEXINIT does not matter or did not come. */
  for(kexinit: FirstKexinit | null): ssh2.Server {
    if (this.#withGcm === null || kexinit?.kind !== "ciphers") return this.#withAll;
    const has = (names: readonly string[]) => names.some((name) => this.#gcm.includes(name));
    return has(kexinit.up) && has(kexinit.down) ? this.#withGcm : this.#withAll;
  }
}
