// Keyboard shortcuts. A page says which it has; `?` shows all that are there.
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Dialog } from "./dialog";

export interface Shortcut {
  /** A key as KeyboardEvent.key has it, or two one after the other: "?", "/", "g p". */
  keys: string;
  what: string;
  do(): void;
}

const shown = signal<readonly Shortcut[]>([]);
export const helpOpen = signal(false);

/** Has the shortcuts for as long as the component is there. Of two with the same keys the later one counts. */
export function useShortcuts(shortcuts: Shortcut[]): void {
  const latest = useRef(shortcuts);
  latest.current = shortcuts;
  const names = shortcuts.map((s) => s.keys + s.what).join();
  useEffect(() => {
    const mine = shortcuts.map((s, i) => ({ ...s, do: () => latest.current[i]?.do() }));
    shown.value = [...shown.peek(), ...mine];
    return () => { shown.value = shown.peek().filter((s) => !mine.includes(s)); };
  }, [names]);
}

const typing = (e: Event) => e.target instanceof HTMLElement && (e.target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName));

let first = "";
let firstAt = 0;

document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented || document.querySelector("dialog[open]")) return;
  if (typing(e)) {
    if (e.key === "Escape") (e.target as HTMLElement).blur();
    return;
  }
  const two = e.timeStamp - firstAt < 1500 && first ? `${first} ${e.key}` : "";
  const found = shown.peek().findLast((s) => s.keys === two) ?? shown.peek().findLast((s) => s.keys === e.key);
  first = e.key;
  firstAt = e.timeStamp;
  if (!found) return;
  first = "";
  e.preventDefault();
  found.do();
});

export function Help() {
  if (!helpOpen.value) return null;
  return (
    <Dialog title="Keyboard" onClose={() => { helpOpen.value = false; }}>
      <dl class="keys">
        {[...new Map(shown.value.map((s) => [s.keys, s])).values()].map((s) => (
          <div key={s.keys}>
            <dt>{s.keys.split(" ").map((k) => <kbd key={k}>{k === " " ? "Space" : k}</kbd>)}</dt>
            <dd>{s.what}</dd>
          </div>
        ))}
        <div><dt><kbd>↑</kbd><kbd>↓</kbd></dt><dd>Move through a list</dd></div>
        <div><dt><kbd>Enter</kbd></dt><dd>Open the line</dd></div>
        <div><dt><kbd>Space</kbd></dt><dd>Select the line, where lines can be selected</dd></div>
        <div><dt><kbd>Esc</kbd></dt><dd>Leave a field, close a dialog</dd></div>
      </dl>
      <div class="menu"><button type="button" onClick={() => { helpOpen.value = false; }}>Close</button></div>
    </Dialog>
  );
}
