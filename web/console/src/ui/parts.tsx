// Small things that every page uses.
import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";
import { ApiError, explain, newKey } from "../api";
import { now } from "../clock";
import { age, time, type Time } from "../format";
import { refreshAll, type Live } from "../live";
import { may, whyNot, type Role } from "../session";
import { toast } from "./toast";

/** A moment: how long ago, with the time itself as its title. Its width does not change while it counts. */
export function Ago({ at }: { at: Time }) {
  return <time class="ago" title={time(at)}>{age(at, now.value)}</time>;
}

export function At({ at }: { at: Time }) {
  return <time>{time(at)}</time>;
}

/** Colours are never all that tells: the text is there too. */
export function Pill({ mood, children, title }: { mood: "good" | "busy" | "bad" | "calm"; children: ComponentChildren; title?: string }) {
  return <span class={`pill ${mood}`} title={title}>{children}</span>;
}

/** What stands where data will be: as high as the data, so that nothing moves when it comes. */
export function Skeleton({ lines = 3 }: { lines?: number }) {
  return <div class="skeleton" aria-hidden="true">{Array.from({ length: lines }, (_, i) => <span key={i} />)}</div>;
}

/** What is wrong, with the fields' names and the id to quote. `asked`: it was a mutation, of which nobody knows whether it was done if no answer came. */
export function Fault({ error, what, asked }: { error: unknown; what?: string; asked?: boolean }) {
  if (!error) return null;
  const api = error instanceof ApiError ? error : undefined;
  const said = asked && api?.status === 0 ? "It is not known whether that was done. Ask again: nothing is done twice." : what;
  return (
    <div class="fault" role="alert">
      <p>{said && <b>{said} </b>}{api?.message ?? explain(error)}</p>
      {api && api.fields.length > 0 && <ul>{api.fields.map((f) => <li key={f}>{f}</li>)}</ul>}
      {api?.problem && <p class="quiet">Request {api.problem.requestId}</p>}
    </div>
  );
}

/** Why something cannot be read. With older data there nothing is pushed aside for what the frame says already. */
export function Unread({ live, what }: { live: Live<unknown>; what: string }) {
  if (!live.error || (live.data !== undefined && live.error.away)) return null;
  return <Fault error={live.error} what={live.data === undefined ? `${what} cannot be shown.` : `${what} cannot be read again.`} />;
}

/** The parts of a page that wait for data: a skeleton first, then the data, with what is wrong above it. */
export function Loaded<T>({ live, lines, what, children }: { live: Live<T>; lines?: number; what: string; children(data: T): ComponentChildren }) {
  return (
    <>
      <Unread live={live} what={what} />
      {live.data === undefined ? !live.error && <Skeleton lines={lines} /> : children(live.data)}
    </>
  );
}

/** A button for what not everybody may do: without the role it is there, does nothing, and says why. */
export function RoleButton({ roles, children, onClick, ...rest }: { roles: Role[]; children: ComponentChildren; onClick(): void; class?: string; disabled?: boolean; title?: string; id?: string }) {
  const allowed = may(...roles);
  return (
    <button type="button" {...rest} aria-disabled={!allowed || rest.disabled || undefined} disabled={undefined}
      title={whyNot(...roles) ?? rest.title} onClick={() => {
        if (!allowed) toast(whyNot(...roles)!, "failed");
        else if (rest.disabled) { if (rest.title) toast(rest.title, "failed"); }
        else onClick();
      }}>
      {children}
    </button>
  );
}

export interface Action<T> {
  run(input: T): Promise<boolean>;
  busy: boolean;
  error: unknown;
}

/**
 * A mutation: under way, failed, or done, which is said in a toast. Trying the same again has the same Idempotency-Key, so that nothing is done
 * twice when an answer was lost.
 */
export function useAction<T>(call: (input: T, key: string) => Promise<string>): Action<T> {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const last = useRef({ body: "", key: "" });
  return {
    busy, error,
    async run(input) {
      const body = JSON.stringify(input);
      if (last.current.body !== body) last.current = { body, key: newKey() };
      setBusy(true);
      setError(undefined);
      try {
        toast(await call(input, last.current.key));
        last.current = { body: "", key: "" };
        return true;
      } catch (e) {
        // What was refused is asked anew. Where no answer came, or a temporary one, the same has to be asked again.
        if (e instanceof ApiError && e.problem && e.status < 500 && e.status !== 429 && e.kind !== "request-in-progress") last.current = { body: "", key: "" };
        setError(e);
        return false;
      } finally {
        setBusy(false);
        refreshAll();
      }
    },
  };
}

/** The reason of a mutation, which goes into the audit. */
export function Reason({ value, onInput, hint }: { value: string; onInput(value: string): void; hint: string }) {
  return (
    <label class="field">
      <span>Why <small>(goes into the audit)</small></span>
      <input name="reason" required maxLength={500} autocomplete="off" placeholder={hint} value={value} onInput={(e) => onInput(e.currentTarget.value)} />
    </label>
  );
}
