/** The lists of algorithms that `ssh2` 1.17.0 sends in its KEXINIT, and negotiates by: an object that all connections of a server share. */
export interface PrivateOffer {
  readonly lists: { readonly kex: Names; readonly serverHostKey: Names; readonly cs: Direction; readonly sc: Direction };
}

interface Names {
  readonly array: readonly string[];
}

interface Direction {
  readonly cipher: Names;
  readonly mac: Names;
  readonly compress: Names;
  readonly lang: Names;
}

/** Where a KEXINIT's lists begin, after the message type and the cookie (RFC 4253 section 7.1); `kex_algorithms` is the first. */
export const KEXINIT_LISTS_AT = 17;

/** An offer like `offer` with other key exchanges or host keys, in order of preference. */
export function withLists(
  offer: PrivateOffer,
  { kex, serverHostKey }: { readonly kex?: readonly string[]; readonly serverHostKey?: readonly string[] },
): PrivateOffer {
  const { lists } = offer;
  const direction = ({ cipher, mac, compress, lang }: Direction) => ({
    cipher: cipher.array,
    mac: mac.array,
    compress: compress.array,
    lang: lang.array,
  });
  const Offer = Reflect.get(offer, "constructor") as new (lists: object) => PrivateOffer;
  return new Offer({
    kex: kex ?? lists.kex.array,
    serverHostKey: serverHostKey ?? lists.serverHostKey.array,
    cs: direction(lists.cs),
    sc: direction(lists.sc),
  });
}
