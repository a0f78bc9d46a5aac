// Lines over time. A canvas tells nothing to a screen reader: the label says in words what the lines show.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { time } from "../format";
import { dark } from "../theme";

export interface Line {
  label: string;
  /** A custom property of the style sheet: "--good". */
  colour: string;
  values: readonly (number | null)[];
  dashed?: boolean;
}

export interface ChartProps {
  /** What it shows, in words and with the last figures. */
  label: string;
  /** Seconds since 1970, ascending. */
  times: readonly number[];
  lines: readonly Line[];
  height?: number;
}

/** Is as high as it says from the first moment on, whatever comes. */
export function Chart({ label, times, lines, height = 260 }: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const night = dark.value;
  const shape = lines.map((l) => l.label + l.colour).join();
  const data = () => [times, ...lines.map((l) => l.values)] as uPlot.AlignedData;

  useEffect(() => {
    const element = box.current!;
    const style = getComputedStyle(element);
    // A canvas knows no light-dark(): an element that wears the colour tells what it is now.
    const probe = element.appendChild(document.createElement("i"));
    const colour = (name: string) => {
      probe.style.color = `var(${name})`;
      return getComputedStyle(probe).color;
    };
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 }, font: `14px ${style.fontFamily}` };
    const p = new uPlot({
      width: element.clientWidth, height,
      legend: { show: false },
      cursor: { points: { size: 7 }, drag: { x: false, y: false } },
      scales: { x: { range: (_u, min, max) => [min, Math.max(max, min + 10)] }, y: { range: (_u, _min, max) => [0, Math.max(5, max * 1.05)] } },
      axes: [{ ...axis, values: (_u, ticks) => ticks.map((s) => time(s * 1000)), space: 110, incrs: [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 86400] }, { ...axis, size: 64, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000] }],
      series: [{}, ...lines.map((l) => ({
        label: l.label, stroke: colour(l.colour), width: 2.5, dash: l.dashed ? [7, 5] : [], points: { show: times.length < 2 }, paths: uPlot.paths.stepped!({ align: 1 }),
      }))],
    }, data(), element);
    plot.current = p;
    probe.remove();
    const sizes = new ResizeObserver(() => p.setSize({ width: element.clientWidth, height }));
    sizes.observe(element);
    return () => {
      sizes.disconnect();
      p.destroy();
    };
  }, [shape, night, height]);
  useEffect(() => { plot.current?.setData(data()); }, [times, lines]);

  return (
    <figure class="chart">
      <figcaption>{lines.map((l) => <span key={l.label}><i class={l.dashed ? "dashed" : undefined} style={{ borderColor: `var(${l.colour})` }} aria-hidden="true" />{l.label}</span>)}</figcaption>
      <div ref={box} role="img" aria-label={label} style={{ height: `${height}px` }} />
    </figure>
  );
}
