export function Controls() {
  return <h1>Controls</h1>;
}
