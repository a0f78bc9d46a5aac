// The summary of the floor, read once for all: the frame keeps it fresh, pages look at it.
import { signal } from "@preact/signals";
import type { Schemas } from "./api";
import type { Live } from "./live";

export const floor = signal<Live<Schemas["Summary"]>>({ data: undefined, error: undefined, loadedAt: 0, loading: true, refresh: () => {} });

/** The failover groups' names, for filters. */
export function groupNames(): string[] {
  return floor.value.data?.items.map((g) => g.failoverGroup) ?? [];
}
