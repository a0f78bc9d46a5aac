// Pages are told apart by the fragment: #/agents?state=pending. So the server has one file to serve, filters can be linked and
// bookmarked, and signing in comes back to the same page.
import { computed, signal } from "@preact/signals";

export interface Route {
  /** Without empty segments: ["agents", "8765…"]. */
  path: string[];
  query: URLSearchParams;
}

export function parseRoute(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const segments = path.split("/").filter(Boolean).map((s) => {
    try {
      return decodeURIComponent(s);
    } catch {
      return s; // typed by hand
    }
  });
  return { path: segments, query: new URLSearchParams(query) };
}

/** href("agents", id) or href("pending", { group: "main" }); undefined and empty values are left out. */
export function href(...parts: (string | Record<string, string | undefined>)[]): string {
  const segments: string[] = [];
  const query = new URLSearchParams();
  for (const part of parts) {
    if (typeof part === "string") segments.push(encodeURIComponent(part));
    else for (const [name, value] of Object.entries(part)) if (value) query.set(name, value);
  }
  const q = query.toString();
  return `#/${segments.join("/")}${q ? `?${q}` : ""}`;
}

const hash = signal(globalThis.location?.hash ?? "");

/** Where the user is. */
export const route = computed(() => parseRoute(hash.value));

globalThis.addEventListener?.("hashchange", () => { hash.value = location.hash; });

export function go(...parts: Parameters<typeof href>): void {
  location.hash = href(...parts);
}

/** Changes parts of the query in place: typing into a filter makes no history. */
export function setQuery(change: Record<string, string | undefined>): void {
  const { path, query } = parseRoute(location.hash);
  const all = { ...Object.fromEntries(query), ...change };
  history.replaceState(null, "", href(...path, all));
  hash.value = location.hash;
}
