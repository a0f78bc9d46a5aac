export function ShiftPage({ id }: { id: string }) {
  return <h1>Shift {id}</h1>;
}
