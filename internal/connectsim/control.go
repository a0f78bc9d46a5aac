package connectsim

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
)

// controlHandler serves the control API: what the methods do, in JSON, for people, scripts and other processes.
//
//	GET    /_control/state
//	GET    /_control/agents                        ?activeRegion= &status= &waiting=true &limit= (100) &offset=
//	POST   /_control/agents                        {username, tdg}
//	GET    /_control/agents/{agent}                by id or username
//	DELETE /_control/agents/{agent}
//	PUT    /_control/agents/{agent}/status         {status}
//	POST   /_control/agents/{agent}/contacts       {channel, region, state}
//	POST   /_control/agents/{agent}/force          what forceFailover() does in the agent's CCP
//	PUT    /_control/contacts/{contact}            {state}
//	POST   /_control/contacts/{contact}/end
//	POST   /_control/contacts/{contact}/clear
//	POST   /_control/shift                         {tdg, to, percent}
//	GET    /_control/faults
//	PUT    /_control/faults                        {region, operation, fault}; region and operation default to "*"
//	DELETE /_control/faults                        all, latencies too; or ?region= &operation= of one
//	PUT    /_control/latency                       {region, operation, latency}
//	PUT    /_control/regions/{region}              {down}: "", refuse, hang, 503
//	PUT    /_control/regions/{region}/ccp          {fault}: "", 503, silent, signin-missing, signin-invalid
//	PUT    /_control/regions/{region}/views/{tdg}  {frozen}
//	GET    /_control/floor
//	PUT    /_control/floor                         what is not given becomes the default
//	GET    /_control/calls                         counts; ?recent= the last n calls
//	DELETE /_control/calls
func (s *Sim) controlHandler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r)
			status := http.StatusOK
			switch {
			case err != nil:
				status, v = controlError(err)
			case v == nil:
				w.WriteHeader(http.StatusNoContent)
				return
			case r.Method == http.MethodPost && r.URL.Path != "/_control/shift":
				status = http.StatusCreated
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			_ = e.Encode(v) // a client that went away is its own affair
		})
	}

	handle("GET /_control/state", func(*http.Request) (any, error) { return s.State(), nil })

	handle("GET /_control/agents", s.controlAgents)
	handle("POST /_control/agents", func(r *http.Request) (any, error) {
		var in struct{ Username, TDG string }
		if err := readControl(r, &in); err != nil {
			return nil, err
		}
		id, err := s.AddAgent(in.Username, in.TDG)
		if err != nil {
			return nil, err
		}
		return s.Agent(id)
	})
	handle("GET /_control/agents/{agent}", func(r *http.Request) (any, error) { return s.Agent(r.PathValue("agent")) })
	handle("DELETE /_control/agents/{agent}", func(r *http.Request) (any, error) { return nil, s.RemoveAgent(r.PathValue("agent")) })
	handle("PUT /_control/agents/{agent}/status", func(r *http.Request) (any, error) {
		var in struct{ Status string }
		if err := readControl(r, &in); err != nil {
			return nil, err
		}
		return nil, s.SetAgentStatus(r.PathValue("agent"), in.Status)
	})
	handle("POST /_control/agents/{agent}/contacts", func(r *http.Request) (any, error) {
		var in struct{ Channel, Region, State string }
		if err := readControl(r, &in); err != nil {
			return nil, err
		}
		id, err := s.StartContactIn(in.Region, r.PathValue("agent"), in.Channel)
		if err == nil && in.State != "" {
			err = s.SetContactState(id, in.State)
		}
		if err != nil {
			return nil, err
		}
		return struct {
			ContactID string `json:"contactId"`
		}{id}, nil
	})
	handle("POST /_control/agents/{agent}/force", func(r *http.Request) (any, error) { return nil, s.ForceMove(r.PathValue("agent")) })
	handle("PUT /_control/contacts/{contact}", func(r *http.Request) (any, error) {
		var in struct{ State string }
		if err := readControl(r, &in); err != nil {
			return nil, err
		}
		return nil, s.SetContactState(r.PathValue("contact"), in.State)
	})
	handle("POST /_control/contacts/{contact}/end", func(r *http.Request) (any, error) { return nil, s.EndContact(r.PathValue("contact")) })
	handle("POST /_control/contacts/{contact}/clear", func(r *http.Request) (any, error) { return nil, s.ClearContact(r.PathValue("contact")) })

	handle("POST /_control/shift", func(r *http.Request) (any, error) {
		in := struct {
			TDG, To string
			Percent int
		}{Percent: 100}
		if err := readControl(r, &in); err != nil {
			return nil, err
		}
		if err := s.Shift(in.TDG, in.To, in.Percent); err != nil {
			return nil, err
		}
		return s.State(), nil
	})

	handle("GET /_control/faults", func(*http.Request) (any, error) { return s.FaultRules(), nil })
	handle("PUT /_control/faults", func(r *http.Request) (any, error) {
		in := FaultRule{Region: "*", Operation: "*"}
		if err := readControl(r, &in); err != nil {
			return nil, err
		}
		if err := s.SetFault(in.Region, in.Operation, in.Fault); err != nil {
			return nil, err
		}
		return s.FaultRules(), nil
	})
	handle("DELETE /_control/faults", func(r *http.Request) (any, error) {
		q := r.URL.Query()
		if !q.Has("region") && !q.Has("operation") {
			s.ClearFaults()
			return nil, nil
		}
		orAll := func(name string) string {
			if v := q.Get(name); v != "" {
				return v
			}
			return "*"
		}
		return nil, s.ClearFault(orAll("region"), orAll("operation"))
	})
	handle("PUT /_control/latency", func(r *http.Request) (any, error) {
		in := struct {
			Region, Operation string
			Latency           Duration
		}{Region: "*", Operation: "*"}
		if err := readControl(r, &in); err != nil {
			return nil, err
		}
		return nil, s.SetLatency(in.Region, in.Operation, in.Latency.std())
	})
	handle("PUT /_control/regions/{region}", func(r *http.Request) (any, error) {
		var in struct{ Down DownMode }
		if err := readControl(r, &in); err != nil {
			return nil, err
		}
		return nil, s.SetRegionDown(r.PathValue("region"), in.Down)
	})
	handle("PUT /_control/regions/{region}/ccp", func(r *http.Request) (any, error) {
		var in struct{ Fault CCPFault }
		if err := readControl(r, &in); err != nil {
			return nil, err
		}
		return nil, s.SetCCPFault(r.PathValue("region"), in.Fault)
	})
	handle("PUT /_control/regions/{region}/views/{tdg}", func(r *http.Request) (any, error) {
		var in struct{ Frozen bool }
		if err := readControl(r, &in); err != nil {
			return nil, err
		}
		return nil, s.setFrozen(r.PathValue("region"), r.PathValue("tdg"), in.Frozen)
	})

	handle("GET /_control/floor", func(*http.Request) (any, error) { return s.Floor(), nil })
	handle("PUT /_control/floor", func(r *http.Request) (any, error) {
		var in Floor
		if err := readControl(r, &in); err != nil {
			return nil, err
		}
		if err := s.SetFloor(in); err != nil {
			return nil, err
		}
		return s.Floor(), nil
	})

	handle("GET /_control/calls", s.controlCalls)
	handle("DELETE /_control/calls", func(*http.Request) (any, error) { s.ResetCalls(); return nil, nil })

	handle("/_control/", func(r *http.Request) (any, error) {
		return nil, &Error{Status: http.StatusNotFound, Type: "not found", Message: r.Method + " " + r.URL.Path + " is not part of the control API"}
	})
	return mux
}

// readControl reads a JSON body strictly.
func readControl(r *http.Request, v any) error {
	d := json.NewDecoder(io.LimitReader(r.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &Error{Status: http.StatusBadRequest, Type: "body", Message: err.Error()}
	}
	return nil
}

// controlError is the answer to an error: 404 for what is not known, the status of an operation's own error, else 400.
func controlError(err error) (int, any) {
	status := http.StatusBadRequest
	var api *Error
	switch {
	case errors.As(err, &api):
		status = api.Status
	case errors.Is(err, errUnknown):
		status = http.StatusNotFound
	}
	return status, struct {
		Error string `json:"error"`
	}{err.Error()}
}

// number reads an optional count of the query.
func number(r *http.Request, name string, def int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, &Error{Status: http.StatusBadRequest, Type: name, Message: strconv.Quote(text) + ": expected a number from 0 on"}
	}
	return n, nil
}

func (s *Sim) controlAgents(r *http.Request) (any, error) {
	limit, err := number(r, "limit", 100)
	if err != nil {
		return nil, err
	}
	offset, err := number(r, "offset", 0)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	region := q.Get("activeRegion")
	if region != "" {
		if _, err := s.mustRegion(region); err != nil {
			return nil, err
		}
	}
	out := struct {
		Total int         `json:"total"`
		Items []AgentInfo `json:"items"`
	}{Items: []AgentInfo{}}
	s.lock()
	defer s.mu.Unlock()
	for _, a := range s.agents {
		if region != "" && s.cfg.Regions[a.region] != region || q.Has("status") && q.Get("status") != a.status ||
			q.Get("waiting") == "true" && !a.waiting {
			continue
		}
		if out.Total >= offset && len(out.Items) < limit {
			out.Items = append(out.Items, s.agentInfo(a))
		}
		out.Total++
	}
	return out, nil
}

func (s *Sim) controlCalls(r *http.Request) (any, error) {
	recent, err := number(r, "recent", 0)
	if err != nil {
		return nil, err
	}
	out := struct {
		Counts map[string]map[string]int `json:"counts"` // by Region and operation
		Recent []Call                    `json:"recent,omitempty"`
	}{Counts: map[string]map[string]int{}}
	for k, n := range s.CallCounts() {
		if out.Counts[k.Region] == nil {
			out.Counts[k.Region] = map[string]int{}
		}
		out.Counts[k.Region][k.Operation] = n
	}
	if recent > 0 {
		calls := s.Calls()
		out.Recent = calls[max(0, len(calls)-recent):]
	}
	return out, nil
}
