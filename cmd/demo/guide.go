package main

import (
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"text/template"

	"changeover/internal/connectsim"
)

// ownPages is the origin of the pages that those who look at the demo write themselves.
const ownPages = "http://localhost:8000"

var guideText = template.Must(template.New("").Parse(`
Changeover is running: {{.Agents}} agents at work in {{.East}}, and {{.West}} stands by.

  operators' console   {{.Service}}/console/
  service              {{.Service}}
  simulated Connect    {{.Simulator}}   (both Regions; the Region is in the signature)
  configuration, log   {{.Config}}, {{.Log}}

Open a desktop in your browser, and leave it open when you shift

  {{.Desktop}}/?agent={{.AgentID}}
      {{.Username}}{{if .OnCall}}, who is on a call. It lasts until you end it, and clear it, in the desktop{{end}}
  {{.Desktop}}/?agent={{.IdleID}}
      {{.Idle}}, who takes contacts as everybody does

A page of your own (docs/desktops.md, Ten minutes): serve its folder by  python3 -m http.server 8000

  {{.Own}}/eventsource.html?{{.Query}}
  {{.Own}}/bridge.html?{{.Query}}&{{.Panels}}
  node watch.mjs {{.Service}} {{.AgentID}}

Look at it

  curl -s {{.Service}}/v1/summary                      the floor at a glance
  curl -s '{{.Service}}/v1/agents?limit=3'             agents: where they work, what they are doing
  curl -s '{{.Service}}/v1/failovers?status=pending'   who is held by a contact during a shift
  curl -s {{.Service}}/v1/failover-groups              the two instances and their Regions' health
  curl -s {{.Service}}/metrics                         Prometheus;  /readyz  /openapi.yaml  are there too

Watch one agent ({{.Username}}), or all

  curl -N -H 'Accept: text/event-stream' {{.Service}}/v1/agents/{{.AgentID}}/events
  {{.Server}} watch --all --endpoint {{.Service}}

Shift the floor to {{.West}}, as an administrator does (AWS CLI 2.10 or 1.27 and newer)

  AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo aws connect update-traffic-distribution \
    --endpoint-url {{.Simulator}} --region {{.West}} \
    --id {{.TDG}} \
    --telephony-config 'Distributions=[{Region={{.East}},Percentage=0},{Region={{.West}},Percentage=100}]' \
    --agent-config     'Distributions=[{Region={{.East}},Percentage=0},{Region={{.West}},Percentage=100}]' \
    --sign-in-config   'Distributions=[{Region={{.East}},Enabled=false},{Region={{.West}},Enabled=true}]'

or the same without the AWS CLI, and back again

  {{.Command}} shift --endpoint {{.Simulator}} --to {{.West}}
  {{.Command}} shift --endpoint {{.Simulator}} --to {{.East}}

What becomes of it is shown here. Ctrl-C ends everything.

`))

// guide says what there is to see and to do. Unless the floor is shifted without anybody looking, it gives one agent a call that only a
// person ends.
func (d *demo) guide(out io.Writer, f *follower, at addresses, configFile, logFile string) error {
	agents := f.sim.Agents()
	idle := slices.DeleteFunc(slices.Clone(agents), func(a connectsim.AgentInfo) bool { return len(a.Contacts) > 0 })
	if len(idle) < 2 {
		idle = agents // so busy a floor is nobody's default
	}
	watched, other := idle[0], idle[len(idle)-1]
	if !d.Shift {
		if _, err := f.sim.StartContact(watched.ID, connectsim.ChannelVoice); err != nil {
			return err
		}
		f.held, f.desktop = watched.ID, at.desktop+"/?agent="+watched.ID
	}
	if err := guideText.Execute(out, map[string]any{
		"Agents": len(agents), "East": east, "West": west, "Service": at.service, "Simulator": at.simulator, "Config": configFile, "Log": logFile,
		"Desktop": at.desktop, "Username": watched.Username, "OnCall": !d.Shift, "AgentID": watched.ID, "IdleID": other.ID, "Idle": other.Username,
		// The ARN: a bare id resolves only in the Region of the source instance.
		"TDG": "arn:aws:connect:" + east + ":" + account + ":traffic-distribution-group/" + connectsim.DefaultTDGID, "Command": d.command,
		"Server": filepath.Join(filepath.Dir(d.command), "server"),
		"Own":    ownPages, "Query": url.Values{"service": {at.service}, "agent": {watched.ID}}.Encode(),
		"Panels": url.Values{"primary": {at.panels[0] + "?agent=" + watched.ID}, "secondary": {at.panels[1] + "?agent=" + watched.ID}, "login": {at.simulator}}.Encode(),
	}); err != nil {
		panic(err) // the template is wrong
	}
	return nil
}

// simulatorCommand is connectsim, which make demo builds beside this program.
func simulatorCommand() string {
	self, err := os.Executable()
	if err != nil {
		return "connectsim"
	}
	path := filepath.Join(filepath.Dir(self), "connectsim")
	if here, err := os.Getwd(); err == nil {
		if relative, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(relative) {
			return "./" + relative
		}
	}
	return path
}
