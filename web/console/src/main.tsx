import { render } from "preact";
import { App } from "./app";
import { follow } from "./live";
import { askSession, loadSettings } from "./session";
import "./theme";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import "./reports.css";

render(<App />, document.getElementById("app")!);
void loadSettings().then(askSession);
void follow();
