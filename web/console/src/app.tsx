// The frame of every page: who is signed in, where one can go, and how old what is shown is.
import type { FunctionComponent } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { now } from "./clock";
import { floor } from "./floor";
import { duration, time } from "./format";
import { connection, heardAt, loaded, refreshAll, useLive } from "./live";
import { api, data, explain } from "./api";
import { go, href, route } from "./router";
import { askSession, may, session, signInFolder, signInURL, signInWithToken, signOut } from "./session";
import { nextTheme, theme } from "./theme";
import { helpOpen, Help, useShortcuts } from "./ui/keys";
import { Toasts } from "./ui/toast";
import { Overview } from "./pages/overview";
import { Pending } from "./pages/pending";
import { Agents } from "./pages/agents";
import { AgentPage } from "./pages/agent";
import { Shifts } from "./pages/shifts";
import { ShiftPage } from "./pages/shift";
import { Controls } from "./pages/controls";
import { DrillPage, Drills } from "./pages/drills";
import { WebhookPage, Webhooks } from "./pages/webhooks";
import { Audit } from "./pages/audit";

interface Page {
  /** The first segment of the fragment, and the letter of its shortcut after g. */
  name: string;
  key: string;
  title: string;
  list: FunctionComponent;
  /** #/agents/{id} */
  one?: FunctionComponent<{ id: string }>;
  /** Whether it is in the navigation for this user. */
  shown?(): boolean;
}

const pages: Page[] = [
  { name: "overview", key: "o", title: "Overview", list: Overview },
  { name: "pending", key: "p", title: "Pending", list: Pending },
  { name: "agents", key: "a", title: "Agents", list: Agents, one: AgentPage },
  { name: "controls", key: "c", title: "Controls", list: Controls },
  { name: "shifts", key: "s", title: "Shifts", list: Shifts, one: ShiftPage },
  { name: "drills", key: "d", title: "Drills", list: Drills, one: DrillPage },
  { name: "webhooks", key: "w", title: "Webhooks", list: Webhooks, one: WebhookPage },
  { name: "audit", key: "u", title: "Audit", list: Audit, shown: () => may("admin") },
];

export function App() {
  const s = session.value;
  return (
    <>
      {s.state === "in" ? <Frame /> : <Outside />}
      <Toasts />
      <Help />
    </>
  );
}

function Frame() {
  const { path } = route.value;
  const page = pages.find((p) => p.name === path[0]) ?? (path.length === 0 ? pages[0]! : undefined);
  const id = path[1];
  const main = useRef<HTMLElement>(null);
  const before = useRef(path.join("/"));

  useShortcuts([
    { keys: "?", what: "Show these keys", do: () => { helpOpen.value = true; } },
    { keys: "r", what: "Read everything again", do: refreshAll },
    { keys: "t", what: "Light, dark, or as the system has it", do: nextTheme },
    ...pages.filter((p) => p.shown?.() ?? true).map((p) => ({ keys: `g ${p.key}`, what: `Go to ${p.title}`, do: () => go(p.name) })),
  ]);

  // Another page begins at its top, and a screen reader says what it is.
  useEffect(() => {
    const title = page?.title ?? "Not found";
    document.title = `${title} – Changeover`;
    if (before.current === path.join("/")) return;
    before.current = path.join("/");
    scrollTo(0, 0);
    main.current?.focus({ preventScroll: true });
  }, [path.join("/")]);

  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); main.current?.focus(); }}>Skip to the page</a>
      <header>
        <a class="brand" href={href("overview")}>Changeover</a>
        <nav aria-label="Pages">
          {pages.filter((p) => p.shown?.() ?? true).map((p) => (
            <a key={p.name} href={href(p.name)} aria-current={p === page ? "page" : undefined}>{p.title}</a>
          ))}
        </nav>
        <div class="tools">
          <button type="button" class="plain" onClick={nextTheme} title="Light, dark, or as the system has it (t)" aria-label={`Theme: ${theme.value}`}>
            {{ auto: "Auto", light: "Light", dark: "Dark" }[theme.value]}
          </button>
          <button type="button" class="plain" onClick={() => { helpOpen.value = true; }} title="Keyboard (?)" aria-label="Keyboard shortcuts">?</button>
          <Who />
        </div>
      </header>
      <Status />
      <main id="main" ref={main} tabIndex={-1}>
        {!page ? <NotFound /> : id !== undefined && page.one ? <page.one key={id} id={id} /> : <page.list />}
      </main>
    </div>
  );
}

function NotFound() {
  return <><h1>Not found</h1><p>There is no such page. <a href={href("overview")}>Overview</a></p></>;
}

function Who() {
  const s = session.value;
  if (s.state !== "in") return null;
  const { name, subject, roles, expiresAt, tokens } = s.session;
  const left = expiresAt ? new Date(expiresAt).getTime() - now.value : null;
  const who = <span class="who" title={`${subject}; ${roles.join(", ")}${expiresAt ? `; until ${time(expiresAt)}` : ""}`}>{name ?? subject} <small>{roles.join(", ")}</small></span>;
  if (!tokens) return who;
  return (
    <>
      {who}
      {left !== null && left < 300_000 && signInFolder.value
        ? <a class="button" href={signInURL()}>Sign in again, {duration(left)} left</a>
        : signInFolder.value
          ? <form method="post" action={`${signInFolder.value}logout`}><button class="plain">Sign out</button></form>
          : <button type="button" class="plain" onClick={() => void signOut()}>Sign out</button>}
    </>
  );
}

/**
 * One line, always there and always as high: how old what is shown is, and what holds completions. A screen reader hears it when what it
 * says becomes another thing, not when seconds pass.
 */
function Status() {
  const summary = useLive("summary", (signal) => data(api.GET("/v1/summary", { signal })));
  useEffect(() => { floor.value = summary; }, [summary.data, summary.error]);
  const paused = summary.data?.items.filter((g) => g.pause) ?? [];
  const t = now.value;
  const c = connection.value;
  const oldest = [...loaded.value.values()].filter((l) => t - l.at > l.due).map((l) => l.at);
  const old = oldest.length > 0 ? Math.min(...oldest) : undefined;

  let mood = "good";
  let said = "Live";
  let rest = heardAt.value ? `, as of ${time(heardAt.value, t)}` : "";
  if (old !== undefined) {
    mood = "bad";
    said = "What is shown is old";
    rest = `: it is from ${time(old, t)}, ${duration(t - old)} ago. ${summary.error ? summary.error.message : ""} It is tried again all the time.`;
  } else if (summary.error) {
    mood = "busy";
    said = "The service cannot be read";
    rest = `: ${summary.error.message}${summary.loadedAt ? ` What is shown is from ${time(summary.loadedAt, t)}.` : ""}`;
  } else if (c.state === "waiting" && t - c.since > 5000) {
    mood = "busy";
    said = "Live events are interrupted";
    rest = `: what is shown is read every quarter of a minute. Tried again in ${duration(c.retryAt - t)}.`;
  } else if (c.state === "connecting") {
    mood = "busy";
    said = "Connecting…";
    rest = "";
  }
  return (
    <section class="status" data-mood={mood} aria-label="How old this is">
      <p><span class="dot" aria-hidden="true" /><span role="status">{said}</span><span>{rest}</span></p>
      <p class="paused" hidden={paused.length === 0}>
        {paused.map((g) => (
          <a key={g.failoverGroup} href={href("controls", { group: g.failoverGroup })}>
            <b>{g.failoverGroup} is paused</b> by {g.pause!.by} until {time(g.pause!.until, t)}: {g.pause!.reason}
          </a>
        ))}
      </p>
    </section>
  );
}

/** Before somebody is signed in. */
function Outside() {
  const s = session.value;
  return (
    <main class="outside">
      <h1>Changeover</h1>
      {s.state === "asking" && <p>One moment…</p>}
      {s.state === "failed" && <><p role="alert">{s.error.message}</p><button type="button" onClick={() => void askSession()}>Try again</button></>}
      {s.state === "noRole" && <>
        <p role="alert">You are signed in{s.session ? ` as ${s.session.name ?? s.session.subject}` : ""}, but your account has none of the roles viewer, operator and admin. Ask whoever looks after its access.</p>
        <button type="button" onClick={() => void signOut()}>Sign out</button>
      </>}
      {s.state === "out" && (signInFolder.value
        ? <><p>The console of your contact centre's failovers.</p><a class="button main" href={signInURL()}>Sign in</a></>
        : <TokenForm />)}
    </main>
  );
}

/** Where no identity provider is configured for browsers, a token does. */
function TokenForm() {
  const [error, setError] = useState("");
  return (
    <form onSubmit={(e) => {
      e.preventDefault();
      const form = e.currentTarget;
      void signInWithToken(String(new FormData(form).get("token")).trim()).catch((err) => setError(explain(err)));
    }}>
      <p>Signing in with a browser is not configured here (<code>auth.login</code>). An access token of your identity provider does it too:</p>
      <label class="field"><span>Access token</span><input name="token" type="password" required autocomplete="off" /></label>
      {error && <p role="alert" class="fault">{error}</p>}
      <button class="main">Sign in</button>
    </form>
  );
}
