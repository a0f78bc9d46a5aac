/** The SharedWorker that holds the connection for all tabs of an origin: serve `dist/worker.js` and name it in the option `worker`. */
import { Auth } from "./auth.js";
import { Connection } from "./connection.js";
import { Ledger } from "./ledger.js";
import type { Down, Up } from "./link.js";
import type { CredentialRequest } from "./options.js";
import type { ConnectionState } from "./types.js";

const ports = new Set<MessagePort>();
let connection: Connection | undefined;
let ledger: Ledger | undefined;
let last: ConnectionState | null = null;
let asked = 0;
const answers = new Map<number, { question: Down; resolve: (value: string) => void; reject: (e: Error) => void; open: number }>();

const tell = (m: Down) => ports.forEach((port) => port.postMessage(m));

/** Asks the tabs, which have the functions. The first answer counts; a tab that is gone gives none. */
function ask(what: "token" | "ticket", request: CredentialRequest): Promise<string> {
  return new Promise((resolve, reject) => {
    const id = ++asked;
    const question: Down = { kind: "proof", id, request, what };
    answers.set(id, { question, resolve, reject, open: ports.size });
    tell(question);
  });
}

function leave(port: MessagePort): void {
  ports.delete(port);
  if (ports.size > 0) return;
  for (const { reject } of answers.values()) reject(new Error("all tabs are gone"));
  answers.clear();
  connection?.close();
  connection = ledger = undefined;
  last = null;
}

function take(port: MessagePort, m: Up): void {
  switch (m.kind) {
    case "hello": {
      ports.add(port);
      const holder = (ledger ??= new Ledger(m.settings.agentId));
      port.postMessage({ kind: "welcome", welcome: { status: holder.known ? holder.status : null, cursor: holder.cursor, state: last } } satisfies Down);
      for (const answer of answers.values()) {
        answer.open++;
        port.postMessage(answer.question);
      }
      if (connection) return;
      const auth = new Auth({
        ...(m.has.token && { token: (r: CredentialRequest) => ask("token", r) }),
        ...(m.has.ticket && { ticket: (r: CredentialRequest) => ask("ticket", r) }),
      });
      connection = new Connection(m.settings, auth, {
        cursor: () => holder.cursor,
        event: (event) => { holder.accept(event); tell({ kind: "event", event }); },
        state: (state) => {
          if (state.state === "closed") return; // nobody is left, or the next one has a connection already
          last = state;
          tell({ kind: "state", state });
        },
      }, (...a) => fetch(...a));
      return;
    }
    case "bye":
      return leave(port);
    case "nudge":
      return connection?.nudge();
    case "proof": {
      const answer = answers.get(m.id);
      if (!answer) return;
      if (m.value !== undefined) answer.resolve(m.value);
      else if (--answer.open > 0) return;
      else answer.reject(new Error("no tab has one"));
      answers.delete(m.id);
    }
  }
}

(globalThis as unknown as { onconnect: (e: MessageEvent) => void }).onconnect = ({ ports: [port] }) => {
  if (!port) return;
  port.onmessage = ({ data }: MessageEvent<Up>) => take(port, data);
  port.addEventListener("close", () => leave(port)); // where browsers tell that a tab is gone
};
