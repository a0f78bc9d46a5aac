// Long lists, page after page as they are scrolled to.
import { useCallback, useRef } from "preact/hooks";
import { useLive, type Live, type LiveOptions } from "../live";

const step = 200;

export interface Paged<T> extends Live<readonly T[]> {
  rows: readonly T[];
  /** Loads more; missing: all is there. */
  more?: (() => void) | undefined;
}

/**
 * A list as far as it was scrolled to. When it is read again, all that was read before is: what has changed in the middle is seen, and nothing
 * is there twice.
 */
export function usePaged<T>(key: string, page: (cursor: string | undefined, signal: AbortSignal) => Promise<{ items: T[]; nextCursor?: string }>, options?: LiveOptions): Paged<T> {
  const wanted = useRef({ key, rows: step });
  if (wanted.current.key !== key) wanted.current = { key, rows: step };
  const { data, refresh, ...rest } = useLive(key, async (signal) => {
    const items: T[] = [];
    let cursor: string | undefined;
    do {
      const read = await page(cursor, signal);
      items.push(...read.items);
      cursor = read.nextCursor;
    } while (cursor && items.length < wanted.current.rows);
    return { items, whole: !cursor };
  }, options);
  const rows = data?.items ?? [];
  const more = useCallback(() => {
    wanted.current.rows = rows.length + step;
    refresh();
  }, [rows.length, refresh]);
  return { ...rest, refresh, data: data?.items, rows, more: data && !data.whole ? more : undefined };
}
