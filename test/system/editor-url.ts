/** What an editor passes to `ssh`. */
export interface EditorTarget {
  readonly user: string;
  readonly host: string;
  /** `null`: it is left to the configuration. */
  readonly port: number | null;
}

/** Reads an editor's URL as the editor of its scheme does. Throws when the editor would not open it. */
export function decodeEditorUrl(url: string): EditorTarget {
  const scheme = url.slice(0, url.indexOf(":"));
  if (scheme === "vscode" || scheme === "cursor") return decodeRemoteAuthority(url);
  if (scheme === "cmux") return decodeCmux(url);
  throw new Error(`no editor takes ${scheme}:`);
}

/**
 * VS Code: `<scheme>://vscode-remote/<remote authority>[/<path>][?windowId=…]`, percent-decoded. The authority is `<resolver>+<host>`, cut at
 * the first plus sign, and lower-cased. Its SSH resolver takes the user before the last `@` and the port behind the last colon.
 */
function decodeRemoteAuthority(url: string): EditorTarget {
  const [, encoded = "", query = ""] = /^\w+:\/\/vscode-remote\/([^/?#]+)[^?#]*\??([^#]*)/.exec(url) ?? [];
  const authority = decodeURIComponent(encoded).toLowerCase();
  const plus = authority.indexOf("+");
  if (authority.slice(0, plus) !== "ssh-remote") throw new Error(`no SSH authority: ${authority}`);
  if (new URLSearchParams(query).get("windowId") !== "_blank") throw new Error("it would replace the window that is open");
  const destination = authority.slice(plus + 1);
  const at = destination.lastIndexOf("@");
  const [host = "", port] = destination.slice(at + 1).split(":");
  if (destination.slice(0, at).includes(":")) throw new Error("the colon would be read as a port's");
  return { user: destination.slice(0, at), host, port: port === undefined ? null : Number(port) };
}

/** cmux: the parts of the query, form-decoded. */
function decodeCmux(url: string): EditorTarget {
  const { hostname, searchParams } = new URL(url);
  const [user, host, port] = ["user", "host", "port"].map((name) => searchParams.get(name));
  if (hostname !== "ssh" || user == null || host == null) throw new Error(`no SSH link: ${url}`);
  return { user, host, port: port == null ? null : Number(port) };
}
