/**
 * The values of a query, which begins with its `?` or is empty, by name, the first of a name that is repeated, with `+` for a
 * space as `URLSearchParams` writes it. Null when one is not percent-encoded UTF-8: guessing would let another path arrive than was sent.
 */
export function readQuery(search: string): Readonly<Record<string, string>> | null {
  if (search === "") return {};
  const values = new Map<string, string>();
  for (const part of search.slice(1).split("&")) {
    if (part === "") continue;
    const [name = "", ...rest] = part.split("=");
    try {
      const key = decode(name);
      if (!values.has(key)) values.set(key, decode(rest.join("=")));
    } catch {
      return null;
    }
  }
  return Object.fromEntries(values);
}

function decode(text: string): string {
  return decodeURIComponent(text.replaceAll("+", " "));
}
