// Failover groups to choose from.
import { api, data } from "../api";
import { useLive } from "../live";

/** The failover groups with their Regions and pauses. */
export function useGroups() {
  return useLive("groups", async () => (await data(api.GET("/v1/failover-groups", { params: { query: { limit: 1000 } } }))).items, { every: 5000 });
}

/** A filter by failover group; where there is only one there is nothing to choose. */
export function GroupFilter({ value, onChange }: { value: string | undefined; onChange(group: string | undefined): void }) {
  const groups = useGroups();
  if ((groups.data?.length ?? 0) < 2) return null;
  return (
    <div class="filters">
      <label class="field">
        <span>Failover group</span>
        <select value={value ?? ""} onChange={(e) => onChange(e.currentTarget.value || undefined)}>
          <option value="">All</option>
          {groups.data!.map((g) => <option key={g.name}>{g.name}</option>)}
        </select>
      </label>
    </div>
  );
}
