package api

import (
	"bytes"
	"context"
	"encoding/csv"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"changeover/internal/api/contract"
	"changeover/internal/failover"
	"changeover/internal/store"
)

// ListShifts implements GET /v1/shifts.
func (s *Server) ListShifts(ctx context.Context, r contract.ListShiftsRequestObject) (contract.ListShiftsResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	f := store.ShiftFilter{Group: value(r.Params.FailoverGroup), TDG: value(r.Params.TdgID)}
	shifts, next, err := s.store.Shifts(ctx, f, page(r.Params.Limit, r.Params.Cursor))
	if err != nil {
		return nil, err
	}
	return contract.ListShifts200JSONResponse{Items: each(shifts, pastShift), NextCursor: text(next)}, nil
}

func pastShift(s *store.PastShift) contract.PastShift {
	return contract.PastShift{
		ShiftID: strconv.FormatInt(s.ID, 10), FailoverGroup: s.Group, TdgID: s.TDG, Before: shares(s.Before.Agents), After: shares(s.After.Agents),
		StartedAt: utc(s.ObservedAt), EndedAt: moment(s.EndedAt), ObservedBy: s.ObservedBy, Conflict: s.Conflict, Failovers: s.Failovers,
		Detected: s.Detected, Pending: s.Pending, Completed: s.Completed, Cancelled: s.Cancelled, Forced: s.Forced, Stalled: s.Stalled,
	}
}

func (s *Server) shiftReport(ctx context.Context, shiftID string) (store.ShiftReport, error) {
	id, err := strconv.ParseInt(shiftID, 10, 64)
	if err != nil { // the document's pattern lets through what fits
		return store.ShiftReport{}, notFound("shift", shiftID)
	}
	report, err := s.store.ShiftReport(ctx, id)
	if isNotFound(err) {
		return report, notFound("shift", shiftID)
	}
	return report, err
}

// GetShift implements GET /v1/shifts/{shiftId}.
func (s *Server) GetShift(ctx context.Context, r contract.GetShiftRequestObject) (contract.GetShiftResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	report, err := s.shiftReport(ctx, r.ShiftID)
	if err != nil {
		return nil, err
	}
	out := contract.ShiftReport{
		Shift: pastShift(&report.PastShift), ByEvidence: []contract.EvidenceCount{},
		ForcedBy: each(report.ForcedBy, func(f *store.ForcedBy) contract.ForcedByCount {
			return contract.ForcedByCount{By: f.By, Count: f.Failovers}
		}),
	}
	for _, e := range []failover.Evidence{failover.Inferred, failover.ByDesktop, failover.LastKnown, failover.ByForce} {
		if n := report.ByEvidence[e]; n > 0 {
			out.ByEvidence = append(out.ByEvidence, contract.EvidenceCount{Evidence: contract.Evidence(e), Count: n})
		}
	}
	for _, p := range report.Phases {
		phase := contract.Phase{Count: p.Failovers, P50Seconds: inSeconds(p.P50), P95Seconds: inSeconds(p.P95), MaxSeconds: inSeconds(p.Max)}
		switch p.Name {
		case "detection":
			out.Phases.Detection = phase
		case "release":
			out.Phases.Release = phase
		case "pending":
			out.Phases.Pending = phase
		case "total":
			out.Phases.Total = phase
		case "confirmation":
			out.Phases.Confirmation = phase
		}
	}
	return contract.GetShift200JSONResponse(out), nil
}

// GetShiftProgress implements GET /v1/shifts/{shiftId}/progress.
func (s *Server) GetShiftProgress(ctx context.Context, r contract.GetShiftProgressRequestObject) (contract.GetShiftProgressResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	id, err := strconv.ParseInt(r.ShiftID, 10, 64)
	if err != nil { // the document's pattern lets through what fits
		return nil, notFound("shift", r.ShiftID)
	}
	p, err := s.store.ShiftProgress(ctx, id)
	if isNotFound(err) {
		return nil, notFound("shift", r.ShiftID)
	}
	if err != nil {
		return nil, err
	}
	return contract.GetShiftProgress200JSONResponse{
		ShiftID: r.ShiftID, StartedAt: utc(p.Since), Until: utc(p.Until), StepSeconds: p.Step.Seconds(),
		Points: each(p.Points, func(at *store.ShiftPoint) contract.ShiftPoint {
			return contract.ShiftPoint{At: utc(at.At), Detected: at.Detected, Pending: at.Pending, Completed: at.Completed, Cancelled: at.Cancelled}
		}),
	}, nil
}

// inSeconds is a duration as reports show it, to the millisecond.
func inSeconds(d time.Duration) *float64 {
	s := d.Round(time.Millisecond).Seconds()
	return &s
}

// csvPage is how many failovers are read at a time.
const csvPage = 1000

// GetShiftFailovers implements GET /v1/shifts/{shiftId}/failovers.csv.
func (s *Server) GetShiftFailovers(ctx context.Context, r contract.GetShiftFailoversRequestObject) (contract.GetShiftFailoversResponseObject, error) {
	first, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	report, err := s.shiftReport(first, r.ShiftID)
	if err != nil {
		return nil, err
	}
	body := &failoversCSV{
		ctx: ctx, store: s.store,
		filter: store.FailoverFilter{TDG: report.TDG, Since: report.ObservedAt, Until: report.EndedAt},
	}
	body.w = csv.NewWriter(&body.buf)
	body.w.UseCRLF = true
	if err := body.w.Write(csvHeader); err != nil {
		return nil, err
	}
	if err := body.fill(); err != nil { // what cannot be read at all is an error; later the connection breaks off
		return nil, err
	}
	return contract.GetShiftFailovers200TextCsvResponse{
		Body:    body,
		Headers: contract.GetShiftFailovers200ResponseHeaders{ContentDisposition: `attachment; filename="shift-` + r.ShiftID + `-failovers.csv"`},
	}, nil
}

var csvHeader = []string{
	"failoverId", "agentId", "failoverGroup", "tdgId", "fromRegion", "toRegion", "status", "cause", "evidence", "detectedAt", "pendingAt", "completedAt",
	"cancelledAt", "confirmedAt", "stalledAt", "pendingSeconds", "totalSeconds", "forced", "forcedBy", "forcedReason", "initialContactIds", "contactIds",
}

// failoversCSV reads the failovers of a shift as lines of CSV, a page at a time, so that a floor of any size takes little memory.
type failoversCSV struct {
	ctx    context.Context
	store  Store
	filter store.FailoverFilter
	cursor string
	done   bool
	buf    bytes.Buffer
	w      *csv.Writer
}

func (c *failoversCSV) Read(p []byte) (int, error) {
	for c.buf.Len() == 0 {
		if c.done {
			return 0, io.EOF
		}
		c.buf.Reset()
		if err := c.fill(); err != nil {
			panic(http.ErrAbortHandler) // half a report must not look like a whole one
		}
	}
	return c.buf.Read(p)
}

// fill reads the next page.
func (c *failoversCSV) fill() error {
	ctx, cancel := context.WithTimeout(c.ctx, storeTimeout)
	defer cancel()
	failovers, next, err := c.store.Failovers(ctx, c.filter, store.Page{Limit: csvPage, Cursor: c.cursor})
	if err != nil {
		return err
	}
	c.cursor, c.done = next, next == ""
	for _, f := range failovers {
		line := []string{
			f.ID, f.AgentID, f.Group, f.TDG, f.From, f.To, string(f.Status), string(f.Cause), string(f.Evidence), csvTime(f.DetectedAt), csvTime(f.PendingAt),
			csvTime(f.CompletedAt), csvTime(f.CancelledAt), csvTime(f.ConfirmedAt), csvTime(f.StalledAt), csvSeconds(f.PendingAt, f.CompletedAt),
			csvSeconds(f.DetectedAt, f.CompletedAt), strconv.FormatBool(f.Forced), f.ForcedBy, f.ForcedReason,
			strings.Join(f.InitialContactIDs, " "), strings.Join(f.ContactIDs, " "),
		}
		for i := range line {
			line[i] = harmless(line[i])
		}
		if err := c.w.Write(line); err != nil {
			return err
		}
	}
	c.w.Flush()
	return c.w.Error()
}

func csvTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return failover.FormatTime(t)
}

func csvSeconds(from, to time.Time) string {
	if from.IsZero() || to.IsZero() {
		return ""
	}
	return strconv.FormatFloat(to.Sub(from).Seconds(), 'f', 3, 64)
}

// harmless keeps a spreadsheet from taking somebody's reason for a formula.
func harmless(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
