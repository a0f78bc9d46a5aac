// Forcing: the one thing here that can lose a customer. It says what would be lost, asks why, and shows why it was refused.
import { useState } from "preact/hooks";
import { api, data, ApiError, idempotency, type Schemas } from "../api";
import type { Toll } from "../contacts";
import { floor } from "../floor";
import { count, plural } from "../format";
import { may, whyNot } from "../session";
import { Dialog } from "../ui/dialog";
import { Fault, Reason, useAction } from "../ui/parts";

export type Target =
  | { kind: "one"; failoverId: string; who: string }
  | { kind: "selected"; group: string; failoverIds: string[] }
  | { kind: "matching"; group: string; filter: Filter };

/** What a bulk force can be narrowed down by: all that the list of who waits can be. */
export type Filter = Partial<Pick<Schemas["BulkForceRequest"], "fromRegion" | "status" | "channel" | "phase" | "onlyStale" | "onlyFresh">>;

interface Input {
  reason: string;
  maxFraction?: number | undefined;
  maxPerSecond?: number | undefined;
}

async function force(target: Target, input: Input, key: string): Promise<string> {
  const header = idempotency(key);
  if (target.kind === "one") {
    const f = await data(api.POST("/v1/failovers/{failoverId}/force", { params: { path: { failoverId: target.failoverId }, header }, body: { reason: input.reason } }));
    return f.status === "completed" ? `${target.who} is forced to ${f.toRegion}.` : `${target.who}: the force is asked for. The leader has not answered yet.`;
  }
  const body: Schemas["BulkForceRequest"] = {
    failoverGroup: target.group, reason: input.reason, ...(input.maxPerSecond ? { maxPerSecond: input.maxPerSecond } : {}),
    maxFraction: input.maxFraction ?? 0.2, onlyStale: false, onlyFresh: false,
    ...(target.kind === "selected" ? { failoverIds: target.failoverIds } : target.filter),
  };
  const r = await data(api.POST("/v1/failovers/force", { params: { header }, body }));
  if (r.matched === null) return "The force is asked for. The leader has not answered yet.";
  return `${plural(r.forced ?? 0, "failover")} of ${count(r.matched)} forced${input.maxPerSecond && r.forced !== r.matched ? "; the rest follows" : ""}.`;
}

export function ForceDialog({ target, toll, onClose }: { target: Target; toll: Toll | undefined; onClose(done: boolean): void }) {
  const [reason, setReason] = useState("");
  const [sure, setSure] = useState(-1); // how many live contacts were agreed to
  const [fraction, setFraction] = useState("");
  const [pace, setPace] = useState("");
  const action = useAction<Input>((input, key) => force(target, input, key));
  const many = target.kind !== "one";
  const exempt = target.kind === "matching" && target.filter.onlyStale === true;
  const refused = action.error instanceof ApiError && action.error.kind === "rule-refused";
  const lost = toll?.live ?? 0;
  // Who agreed to lose three is asked again when it has become five.
  const agreed = sure >= lost;
  const groupAgents = target.kind === "one" ? 0 : floor.value.data?.items.find((g) => g.failoverGroup === target.group)?.agents ?? 0;
  const limit = fraction ? Number(fraction) : 0.2;
  const tooMany = many && !exempt && toll !== undefined && groupAgents > 0 && limit < 1 && toll.failovers > limit * groupAgents;
  const needsSure = toll === undefined || lost > 0 || toll.unknown > 0;
  const who = target.kind === "one" ? target.who : toll ? plural(toll.failovers, "failover") : "these failovers";
  const ready = reason.trim() !== "" && (agreed || !needsSure) && toll !== undefined && toll.failovers > 0;
  return (
    <Dialog title={target.kind === "one" ? `Force ${target.who}?` : `Force ${who}?`} busy={action.busy} onClose={() => onClose(false)}>
      <form onSubmit={(e) => {
        e.preventDefault();
        if (!ready || action.busy) return;
        void action.run({ reason: reason.trim(), maxFraction: fraction ? Number(fraction) : undefined, maxPerSecond: pace ? Number(pace) : undefined })
          .then((done) => { if (done) onClose(true); });
      }}>
        <div class={`toll ${lost > 0 ? "bad" : "calm"}`}>
          {toll === undefined ? <p>Counting what would be lost…</p> : (
            <>
              <p class="figure">{count(lost)}<small> live {lost === 1 ? "contact" : "contacts"} would be dropped</small></p>
              <p>{plural(toll.failovers, "agent")} {toll.failovers === 1 ? "is" : "are"} completed {pace ? `one after the other, ${pace} per second` : "at once"}{toll.afterContactWork > 0 && <>, {plural(toll.afterContactWork, "contact")} in after-contact work left behind</>}.
                {toll.unknown > 0 && <b> Of {plural(toll.unknown, "agent")} it is not known yet whether they talk with somebody.</b>}</p>
            </>
          )}
        </div>
        {exempt && <p class="quiet">Only agents whose Region cannot be read. The limit of a fifth within ten minutes does not count for them, and their contacts are those that were seen last.</p>}
        <Reason value={reason} onInput={setReason} hint="INC-2041, the Region is down" />
        {many && (
          <div class="filters">
            <label class="field"><span>How fast</span>
              <select value={pace} onChange={(e) => setPace(e.currentTarget.value)}>
                <option value="">All at once</option>
                {[1, 5, 20, 100].map((n) => <option key={n} value={n}>{n} per second</option>)}
              </select>
            </label>
            {!exempt && (
              <label class="field"><span>At most, within ten minutes</span>
                <select value={fraction} onChange={(e) => setFraction(e.currentTarget.value)} title={whyNot("admin")}>
                  <option value="">A fifth of the group</option>
                  <option value="0.5" disabled={!may("admin")}>Half of the group{may("admin") ? "" : " (role admin)"}</option>
                  <option value="1" disabled={!may("admin")}>No limit{may("admin") ? "" : " (role admin)"}</option>
                </select>
              </label>
            )}
          </div>
        )}
        {tooMany && !refused && (
          <p class="warning">{plural(toll.failovers, "agent")} are more than {limit === 0.5 ? "half" : "a fifth"} of the {count(groupAgents)} in {target.group}: this will be refused.
            {may("admin") ? " Raise the limit above, or narrow the choice." : " An admin may raise the limit; or narrow the choice."}</p>
        )}
        {needsSure && (
          <label class="field inline">
            <input type="checkbox" checked={agreed} onChange={(e) => setSure(e.currentTarget.checked ? lost : -1)} />
            <span>{lost > 0 ? `Yes, ${plural(lost, "live contact")} may be lost` : "Yes, live contacts may be lost"}</span>
          </label>
        )}
        <Fault asked error={action.error} what={refused ? "Nothing was forced." : undefined} />
        {refused && <p>{may("admin") ? "As admin you may raise the limit above; the reason goes into the audit." : "Force fewer, wait until the ten minutes are over, or ask an admin. Agents whose Region is down can be forced without this limit."}</p>}
        <div class="menu">
          <button type="button" onClick={() => onClose(false)} disabled={action.busy}>Cancel</button>
          <button type="submit" class="danger" aria-disabled={!ready || action.busy || undefined}>{action.busy ? "Forcing…" : lost > 0 ? `Force, and drop ${count(lost)}` : "Force"}</button>
        </div>
        {!ready && !action.busy && toll && <p class="quiet needs">{toll.failovers === 0 ? "Nobody is left to force." : reason.trim() === "" ? "Say why." : "Confirm above what may be lost."}</p>}
      </form>
    </Dialog>
  );
}
