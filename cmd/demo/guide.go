package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/template"

	"changeover/internal/connectsim"
)

var guideText = template.Must(template.New("").Parse(`
Changeover is running: {{.Agents}} agents at work in {{.East}}, and {{.West}} stands by.

  service              {{.Service}}
  simulated Connect    {{.Simulator}}   (both Regions; the Region is in the signature)
  configuration, log   {{.Config}}, {{.Log}}

Look at it

  curl -s {{.Service}}/v1/summary                      the floor at a glance
  curl -s '{{.Service}}/v1/agents?limit=3'             agents: where they work, what they are doing
  curl -s '{{.Service}}/v1/failovers?status=pending'   who is held by a contact during a shift
  curl -s {{.Service}}/v1/failover-groups              the two instances and their Regions' health
  curl -s {{.Service}}/metrics                         Prometheus;  /readyz  /openapi.yaml  are there too

Watch one agent ({{.Username}}{{if .OnCall}}, who is on a call now{{end}})

  curl -N -H 'Accept: text/event-stream' {{.Service}}/v1/agents/{{.AgentID}}/events

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

// guide says what there is to see and to do.
func (d *demo) guide(out io.Writer, f *follower, simURL, configFile, logFile string) {
	agents := f.sim.Agents()
	watched := agents[0]
	onCall := func(a connectsim.AgentInfo) bool {
		return slices.ContainsFunc(a.Contacts, func(c connectsim.ContactInfo) bool { return c.Channel == connectsim.ChannelVoice })
	}
	if i := slices.IndexFunc(agents, onCall); i >= 0 {
		watched = agents[i]
	}
	if err := guideText.Execute(out, map[string]any{
		"Agents": len(agents), "East": east, "West": west, "Service": f.url, "Simulator": simURL, "Config": configFile, "Log": logFile,
		"Username": watched.Username, "OnCall": onCall(watched), "AgentID": watched.ID,
		// The ARN: a bare id resolves only in the Region of the source instance.
		"TDG": "arn:aws:connect:" + east + ":" + account + ":traffic-distribution-group/" + connectsim.DefaultTDGID, "Command": d.command,
	}); err != nil {
		panic(err) // the template is wrong
	}
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
