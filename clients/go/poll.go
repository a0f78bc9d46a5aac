package changeover

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// poll asks for events where streams do not get through, until a poll fails, or until a stream that is tried at the same time gets through.
func (f *follower) poll(ctx context.Context) error {
	way := &f.ways[f.current.Load()]
	ctx, cancel := context.WithCancelCause(ctx)
	trial := make(chan struct{}, 1) // has room while none is under way
	defer func() {
		cancel(nil)
		trial <- struct{}{} // the one under way has ended
	}()
	way.trial = max(way.trial, firstTrial)
	trialAt := time.Now().Add(way.trial)
	told := false
	for {
		err := f.pollOnce(ctx, way, &told, func(r *http.Request) {
			if time.Now().Before(trialAt) {
				return
			}
			select {
			case trial <- struct{}{}:
			default:
				return
			}
			way.trial = min(2*way.trial, maxTrial)
			trialAt = time.Now().Add(way.trial)
			go func() {
				if f.through(ctx, r) {
					cancel(errThrough)
				}
				<-trial
			}()
		})
		switch {
		case errors.Is(err, errLeft):
			return err
		case errors.Is(context.Cause(ctx), errThrough):
			way.blocked, way.silences, way.trial = false, 0, 0
			return errThrough
		case err != nil:
			way.blocked = way.polled // if polls do not get through either, it is not streams that do not
			return err
		}
	}
}

// pollOnce asks once and yields what came. With the token that is good for both, try may try a stream. The error says why it failed.
func (f *follower) pollOnce(ctx context.Context, way *way, told *bool, try func(*http.Request)) error {
	endpoint := f.endpoint()
	token, err := f.proof(ctx, endpoint)
	if err != nil {
		return err
	}
	try(f.streamRequest(ctx, endpoint, token))
	wait := pollWait
	if !way.polled {
		wait = firstPoll
	}
	began := time.Now()
	page, err := f.page(ctx, endpoint, token, wait)
	if err != nil {
		return err
	}
	f.refused, f.failures, way.polled = "", 0, true
	if !*told {
		*told = true
		f.tell(State{Phase: Polling, Endpoint: endpoint.String()})
	}
	for _, item := range page.Items {
		if err := f.take(frame{id: item.ID, event: item.Event, data: item.Data}); err != nil {
			return err
		}
	}
	if page.NextCursor != "" {
		f.after = page.NextCursor
	}
	if len(page.Items) == 0 && time.Since(began) < tooQuick { // something that answers for the service must not be asked without end
		timer := time.NewTimer(firstBackoff + rand.N(firstBackoff))
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	return nil
}

// page is an answer to a poll.
type page struct {
	Items []struct {
		ID    string          `json:"id"`
		Event string          `json:"event"`
		Data  json.RawMessage `json:"data"`
	} `json:"items"`
	NextCursor string `json:"nextCursor"`
}

// page asks for the events after the last one, and waits so long for the first.
func (f *follower) page(ctx context.Context, endpoint *url.URL, token string, wait time.Duration) (*page, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	guard := time.AfterFunc(wait+pollGrace, func() { cancel(errSlow) }) // the body, too
	defer guard.Stop()
	query := url.Values{"after": {cmp.Or(f.after, "-")}, "wait": {wait.String()}, "limit": {strconv.Itoa(pollLimit)}} // - is no cursor: it is answered by a snapshot
	answer, err := f.ask(ctx, cancel, f.request(ctx, endpoint, "application/json", query.Encode(), token), wait+pollGrace)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if err := f.accept(answer, endpoint, token); err != nil {
		return nil, err
	}
	p := &page{}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxPage)).Decode(p); err != nil || p.Items == nil {
		return nil, fmt.Errorf("%s answers a poll with something else than events: is that Changeover? %w", endpoint, cmp.Or(context.Cause(ctx), err, io.ErrUnexpectedEOF))
	}
	return p, nil
}

// through says whether a stream gets through: whether something comes after its beginning. What it says is left to the stream that is opened then.
func (f *follower) through(ctx context.Context, r *http.Request) bool {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	answer, err := f.ask(ctx, cancel, r.WithContext(ctx), connectTimeout)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	if !isStream(answer) {
		return false
	}
	body := &watched{body: answer.Body, silence: f.silence, cancel: cancel}
	for buf := make([]byte, 4096); !body.beyond; {
		if _, err := body.Read(buf); err != nil {
			return false
		}
	}
	return true
}
