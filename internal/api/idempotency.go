package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"net/http"
	"time"

	"changeover/internal/store"
)

// once answers a mutation that came with an Idempotency-Key: the first request with a key is done and its answer kept,
// later ones get that answer. The key belongs to the caller, and stands for the whole request: method, address and body, and
// whether its caller may see everybody's things or one agent's: who has lost a role gets nothing from the time before.
//
// A request that dies in the middle can be sent again after a minute. Then a force may find that it has been done, and says
// so with 409; nothing is done twice.
func (s *Server) once(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	c := callOf(r.Context())
	scope, rights := c.identity.Subject, "of "+c.identity.AgentID
	if c.op.everybodys(c.identity) {
		rights = "everybody's"
	}
	hash := sha256.New()
	for _, part := range []string{r.Method, r.URL.RequestURI(), rights, string(body)} {
		hash.Write([]byte(part))
		hash.Write([]byte{0}) // neither a method nor an address holds one
	}
	// Whether or not its caller waits: a key that is claimed by the database, and by nobody who knows, would be in use for a minute.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), storeTimeout)
	defer cancel()
	answer, err := s.store.BeginIdempotent(ctx, scope, key, hash.Sum(nil))
	switch {
	case errors.Is(err, store.ErrKeyReused):
		s.fail(w, r, problemf(kindKeyReused, "The Idempotency-Key was used for another request. Make a new one for each new request."))
		return
	case errors.Is(err, store.ErrKeyInUse):
		s.fail(w, r, problemf(kindInProgress, "A request with this Idempotency-Key is being answered. Try again with the same key."))
		return
	case err != nil:
		s.fail(w, r, err)
		return
	}
	if answer == nil {
		first := s.first(r, scope, key)
		maps.Copy(w.Header(), first.header)
		w.WriteHeader(first.status)
		w.Write(first.body.Bytes())
		return
	}
	if answer.ContentType != "" {
		w.Header().Set("Content-Type", answer.ContentType)
	}
	w.WriteHeader(answer.Status)
	w.Write(answer.Body)
}

// keepTimeout bounds the keeping of an answer.
const keepTimeout = 3 * time.Second

// first does the request and keeps its answer, whether or not the caller waits for it: who lost the connection asks again with
// the same key. A request that did nothing, because the service could not, is not kept: the key is free for the next try.
func (s *Server) first(r *http.Request, scope, key string) *recorder {
	r = r.WithContext(store.WithIdempotencyKey(context.WithoutCancel(r.Context()), scope, key))
	kept := &recorder{header: make(http.Header), status: http.StatusOK}
	finished := false
	settle := func() {
		ctx, cancel := context.WithTimeout(r.Context(), keepTimeout)
		defer cancel()
		var err error
		if finished && kept.status < http.StatusInternalServerError {
			err = s.store.FinishIdempotent(ctx, scope, key, store.Answer{
				Status: kept.status, ContentType: kept.header.Get("Content-Type"), Body: kept.body.Bytes(),
			})
		} else {
			err = s.store.ReleaseIdempotent(ctx, scope, key)
		}
		if err != nil {
			s.log.WarnContext(ctx, "answer not kept under its idempotency key, a retry within a minute is told to wait",
				"request_id", callOf(r.Context()).requestID, "error", err)
		}
	}
	defer settle() // also when the handler panics
	s.mux.ServeHTTP(kept, r)
	finished = true
	return kept
}

// recorder is a response that is looked at before it is sent.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(b []byte) (int, error) { return w.body.Write(b) }
