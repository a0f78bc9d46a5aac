// Dialogs: the browser's own, which keep the focus inside, give it back at the end, and close with Escape.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";

export interface DialogProps {
  title: string;
  onClose(): void;
  /** While something is under way Escape does nothing: what was asked for is asked for. */
  busy?: boolean;
  wide?: boolean;
  children: ComponentChildren;
}

/** Is open while it is there: `{open && <Dialog …>}`. */
export function Dialog({ title, onClose, busy, wide, children }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    element.current?.showModal();
    // Taken out of the page it does not give the focus back by itself.
    return () => { if (before instanceof HTMLElement && before.isConnected) before.focus(); };
  }, []);
  return (
    <dialog
      ref={element} class={wide ? "wide" : undefined} aria-labelledby={id}
      onCancel={(e) => { e.preventDefault(); if (!busy) onClose(); }}
      onClose={onClose}
    >
      <h2 id={id}>{title}</h2>
      {children}
    </dialog>
  );
}
