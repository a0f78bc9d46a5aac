// What was done or went wrong, said once. The list is a polite live region; nothing that streams in is said there.
import { signal } from "@preact/signals";

interface Toast {
  id: number;
  kind: "done" | "failed";
  text: string;
}

const toasts = signal<Toast[]>([]);
let last = 0;

export function toast(text: string, kind: Toast["kind"] = "done"): void {
  const id = ++last;
  toasts.value = [...toasts.value.slice(-3), { id, kind, text }];
  if (kind === "done") setTimeout(() => close(id), 8000); // failures stay until they are read
}

const close = (id: number) => { toasts.value = toasts.value.filter((t) => t.id !== id); };

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map((t) => (
        <p key={t.id} class={`toast ${t.kind}`}>
          <span>{t.text}</span>
          <button type="button" class="plain" aria-label="Dismiss" onClick={() => close(t.id)}>✕</button>
        </p>
      ))}
    </div>
  );
}
