// Pages of a list that changes while it is read. No DOM here.

export interface Page<T> {
  cursor: string | undefined;
  rows: readonly T[];
  next: string | undefined;
}

/** The pages that hold the rows from..to, at least the first. */
export function pagesInView(pages: readonly Page<unknown>[], from: number, to: number): number[] {
  const found: number[] = [];
  let at = 0;
  pages.forEach((p, i) => {
    if (at < to && at + p.rows.length > from) found.push(i);
    at += p.rows.length;
  });
  return found.length > 0 ? found : [0];
}

/**
 * One list of pages of which some were read again. Where lines have gone, a page reaches into the next one: what is there twice is kept where it came
 * first. Where lines were added, a page ends before the next one begins, and the rest comes when that is read again.
 */
export function join<T>(pages: readonly Page<T>[], keyOf: (row: T) => string): Page<T>[] {
  const seen = new Set<string>();
  const out = pages.map((p) => ({ ...p, rows: p.rows.filter((r) => !seen.has(keyOf(r)) && seen.add(keyOf(r))) }));
  // A first page without a further one is the whole list, whatever was read before.
  const end = out.findIndex((p) => p.next === undefined);
  return end < 0 ? out : out.slice(0, end + 1);
}
