// Dark, light, or as the system has it. The style sheet goes by color-scheme, so there is one place to switch.
import { effect, signal } from "@preact/signals";

export type Theme = "auto" | "light" | "dark";

const stored = (() => {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null; // a browser that stores nothing
  }
})();

export const theme = signal<Theme>(stored === "light" || stored === "dark" ? stored : "auto");

/** Whether it is dark now; for canvases, which no style sheet reaches. */
const system = matchMedia("(prefers-color-scheme: dark)");
export const dark = signal(false);

const look = () => { dark.value = theme.value === "dark" || (theme.value === "auto" && system.matches); };
system.addEventListener("change", look);

effect(() => {
  document.documentElement.dataset.theme = theme.value;
  look();
  try {
    if (theme.value === "auto") localStorage.removeItem("theme");
    else localStorage.setItem("theme", theme.value);
  } catch {
    // it holds until the page is left
  }
});

export function nextTheme(): void {
  theme.value = ({ auto: "light", light: "dark", dark: "auto" } as const)[theme.value];
}
