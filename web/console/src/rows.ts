// Long lists from pages of the API. Only the pages in view are read again.
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { ApiError } from "./api";
import { useLive, type Live, type LoggedEvent } from "./live";
import { askSession } from "./session";
import { join, pagesInView, type Page } from "./paging";

export interface RowsOptions<T, R> {
  load(cursor: string | undefined, limit: number, signal: AbortSignal): Promise<R & { items: T[]; nextCursor?: string }>;
  keyOf(row: T): string;
  every?: number;
  matters?(event: LoggedEvent): boolean;
}

export interface Rows<T, R> {
  rows: readonly T[];
  /** Loads the next page; undefined on the last. */
  more: (() => void) | undefined;
  /** Say which rows are in view. */
  view(from: number, to: number): void;
  loading: boolean;
  live: Live<R>;
}

const first = 200;
const further = 1000;

/** `key` says what is listed: another one begins at the top. */
export function useRows<T, R>(key: string, o: RowsOptions<T, R>): Rows<T, R> {
  const [pages, setPages] = useState<{ key: string; list: Page<T>[] }>({ key, list: [] });
  const latest = useRef({ o, pages });
  latest.current = { o, pages };
  const seen = useRef({ from: 0, to: 50 });
  const [adding, setAdding] = useState(false);
  const list = pages.key === key ? pages.list : [];

  const live = useLive<R>(key, async (signal) => {
    const { o, pages } = latest.current;
    const had = pages.key === key ? pages.list : [];
    const wanted = pagesInView(had, seen.current.from, seen.current.to);
    const fresh = new Map<number, Page<T>>();
    let answer: R | undefined;
    for (const i of wanted) {
      const cursor = had[i]?.cursor;
      const a = await o.load(cursor, i === 0 ? first : further, signal);
      answer = a;
      fresh.set(i, { cursor, rows: a.items, next: a.nextCursor });
    }
    setPages((now) => {
      const before = now.key === key ? now.list : [];
      const next = before.map((p, i) => fresh.get(i) ?? p);
      if (next.length === 0) next.push(fresh.get(0)!);
      return { key, list: join(next, o.keyOf) };
    });
    return answer!;
  }, { every: o.every, matters: o.matters });

  const next = list.at(-1)?.next;
  const more = useCallback(() => {
    if (!next) return;
    setAdding(true);
    void latest.current.o.load(next, further, new AbortController().signal).then(
      (a) => setPages((now) => (now.key !== key || now.list.at(-1)?.next !== next ? now
        : { key, list: join([...now.list, { cursor: next, rows: a.items, next: a.nextCursor }], latest.current.o.keyOf) })),
      (e) => { if (e instanceof ApiError && e.status === 401) void askSession(); },
    ).finally(() => setAdding(false));
  }, [key, next]);

  const view = useCallback((from: number, to: number) => { seen.current = { from, to }; }, []);
  useEffect(() => { seen.current = { from: 0, to: 50 }; }, [key]);
  const rows = useMemo(() => list.flatMap((p) => p.rows), [list]);
  return { rows, more: next && !adding ? more : undefined, view, loading: list.length === 0 && !live.error, live };
}
