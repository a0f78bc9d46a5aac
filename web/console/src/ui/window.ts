// Which rows of a long list are drawn.

export interface Span {
  /** The first row that is drawn, and the one after the last. */
  from: number;
  to: number;
}

/** The rows that are in view, and some above and below. */
export function span(scrollTop: number, viewHeight: number, rowHeight: number, rows: number, extra = 8): Span {
  const from = Math.max(0, Math.min(rows, Math.floor(scrollTop / rowHeight)) - extra);
  const to = Math.min(rows, Math.ceil((scrollTop + viewHeight) / rowHeight) + extra);
  return { from, to: Math.max(from, to) };
}
