// A table that draws only what is in view: 50,000 lines cost as much as 50. All lines are equally high. It is an ARIA grid: one line has the focus, arrows move it, Enter opens, Space selects.
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { span } from "./window";

export interface Column<T> {
  name: string;
  title: ComponentChildren;
  /** A CSS grid track: "8rem", "minmax(10rem, 2fr)". Fixed parts keep still while data streams in. */
  width: string;
  cell(row: T): ComponentChildren;
  /** The name by which the page sorts; missing: it cannot be sorted by. */
  sort?: string;
  number?: boolean;
}

export interface Sorting {
  by: string;
  descending: boolean;
}

export interface TableProps<T> {
  label: string;
  columns: Column<T>[];
  rows: readonly T[];
  rowKey(row: T): string;
  /** How many there are, if that is known and more than are loaded; else `more` says that there are. */
  total?: number;
  /** Loads the next page; called when the end comes into view. Missing: all is there. */
  more?: (() => void) | undefined;
  onOpen?(row: T): void;
  sorting?: Sorting;
  onSort?(by: Sorting): void;
  selected?: ReadonlySet<string>;
  onSelect?(keys: ReadonlySet<string>): void;
  /** Tells which rows are in view, so that only those are read again. */
  onView?(from: number, to: number): void;
  empty: ComponentChildren;
  loading?: boolean;
}

const rowHeight = 44;

export function Table<T>(p: TableProps<T>) {
  const view = useRef<HTMLDivElement>(null);
  const [scroll, setScroll] = useState({ top: 0, height: 600 });
  const [focused, setFocused] = useState(0);
  const moved = useRef(false);
  const anchor = useRef(0);
  const { rows } = p;
  const active = Math.min(focused, Math.max(0, rows.length - 1));
  const { from, to } = span(scroll.top, scroll.height, rowHeight, rows.length);

  useLayoutEffect(() => {
    const element = view.current!;
    const look = () => setScroll({ top: element.scrollTop, height: element.clientHeight });
    look();
    const sizes = new ResizeObserver(look);
    sizes.observe(element);
    return () => sizes.disconnect();
  }, []);

  useEffect(() => { p.onView?.(from, to); }, [from, to]);
  useEffect(() => { if (p.more && !p.loading && to >= rows.length - 20) p.more(); }, [to, rows.length, p.loading, p.more]);

  useLayoutEffect(() => {
    if (!moved.current) return;
    moved.current = false;
    view.current?.querySelector<HTMLElement>(`[data-row="${active}"]`)?.focus({ preventScroll: true });
  });

  const move = (to: number) => {
    const next = Math.max(0, Math.min(rows.length - 1, to));
    const element = view.current!;
    const top = next * rowHeight;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + 2 * rowHeight > element.scrollTop + element.clientHeight) element.scrollTop = top + 2 * rowHeight - element.clientHeight;
    setScroll({ top: element.scrollTop, height: element.clientHeight });
    setFocused(next);
    moved.current = true;
  };
  const toggle = (index: number, range = false) => {
    const row = rows[index];
    if (!row || !p.onSelect || !p.selected) return;
    const next = new Set(p.selected);
    const add = !next.has(p.rowKey(row));
    const [low, high] = range ? [Math.min(anchor.current, index), Math.max(anchor.current, index)] : [index, index];
    for (const r of rows.slice(low, high + 1)) {
      if (add) next.add(p.rowKey(r));
      else next.delete(p.rowKey(r));
    }
    anchor.current = index;
    p.onSelect(next);
  };
  const onKeyDown = (e: KeyboardEvent) => {
    if (!(e.target instanceof HTMLElement) || e.target.dataset.row === undefined) return;
    const page = Math.max(1, Math.floor(scroll.height / rowHeight) - 2);
    const steps: Record<string, number> = {
      ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: rows.length - 1,
    };
    const row = rows[active];
    if (e.key in steps) move(steps[e.key]!);
    else if (e.key === " " && p.onSelect) toggle(active, e.shiftKey);
    else if (e.key === "Enter" && p.onOpen && row) p.onOpen(row);
    else return;
    e.preventDefault();
  };

  const columns = [...(p.onSelect ? ["2.75rem"] : []), ...p.columns.map((c) => c.width)].join(" ");
  const all = p.selected && rows.length > 0 && rows.every((r) => p.selected!.has(p.rowKey(r)));
  return (
    <div class="table" role="grid" aria-label={p.label} aria-rowcount={p.more ? (p.total ?? -1) : rows.length + 1} aria-multiselectable={p.onSelect ? true : undefined} aria-busy={p.loading || undefined}>
      <div class="view" ref={view} role="presentation" onScroll={(e) => setScroll({ top: e.currentTarget.scrollTop, height: e.currentTarget.clientHeight })} onKeyDown={onKeyDown}>
        <div class="sheet" role="presentation">
          <div class="head" role="rowgroup">
            <div role="row" aria-rowindex={1} style={{ gridTemplateColumns: columns }}>
              {p.onSelect && (
                <div role="columnheader">
                  <input type="checkbox" aria-label="Select all that are loaded" checked={!!all} disabled={rows.length === 0}
                    onChange={() => p.onSelect!(all ? new Set() : new Set(rows.map(p.rowKey)))} />
                </div>
              )}
              {p.columns.map((c) => {
                const sorted = c.sort && p.sorting?.by === c.sort ? (p.sorting.descending ? "descending" : "ascending") : undefined;
                return (
                  <div key={c.name} role="columnheader" class={c.number ? "number" : undefined} aria-sort={sorted}>
                    {c.sort && p.onSort
                      ? <button type="button" class="plain" onClick={() => p.onSort!({ by: c.sort!, descending: sorted === "ascending" })}>{c.title}<i aria-hidden="true">{sorted === "descending" ? "▼" : sorted ? "▲" : ""}</i></button>
                      : c.title}
                  </div>
                );
              })}
            </div>
          </div>
          <div class="body" role="rowgroup" style={{ height: `${rows.length * rowHeight}px` }}>
            {rows.slice(from, to).map((row, i) => {
              const index = from + i;
              const key = p.rowKey(row);
              return (
                <div key={key} role="row" aria-rowindex={index + 2} aria-selected={p.selected ? p.selected.has(key) : undefined} data-row={index} tabIndex={index === active ? 0 : -1}
                  class={p.onOpen ? "opens" : undefined} style={{ top: `${index * rowHeight}px`, gridTemplateColumns: columns }}
                  onFocus={() => setFocused(index)}
                  onClick={(e) => {
                    if (!(e.target as HTMLElement).closest("a, button, input, label") && p.onOpen && !getSelection()?.toString()) p.onOpen(row);
                  }}>
                  {p.onSelect && (
                    <div role="gridcell">
                      <input type="checkbox" tabIndex={-1} aria-label="Select" checked={p.selected!.has(key)} onClick={(e) => { e.preventDefault(); toggle(index, e.shiftKey); }} />
                    </div>
                  )}
                  {p.columns.map((c) => <div key={c.name} role="gridcell" class={c.number ? "number" : undefined}>{c.cell(row)}</div>)}
                </div>
              );
            })}
          </div>
        </div>
        {rows.length === 0 && !p.loading && <p class="empty">{p.empty}</p>}
        {rows.length === 0 && p.loading && <div class="skeleton" aria-hidden="true">{Array.from({ length: 8 }, (_, i) => <span key={i} />)}</div>}
      </div>
    </div>
  );
}
