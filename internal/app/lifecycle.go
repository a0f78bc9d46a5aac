package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// lifecycle is a stack of named steps that undo what was set up. All of them run, last first, each bounded in time, whatever the others
// return: one part that hangs must not keep the database from being closed. It may be stopped several times and at once; the
// steps run once.
type lifecycle struct {
	log *slog.Logger

	mu      sync.Mutex
	steps   []step
	stopped chan struct{} // closed when the steps have run; nil: nobody has begun
	err     error         // of the steps; set before stopped is closed
}

type step struct {
	name    string
	timeout time.Duration
	stop    func(context.Context) error
}

// onStop pushes a step. stop gets a context that ends after timeout and has to return soon after that.
func (l *lifecycle) onStop(name string, timeout time.Duration, stop func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.steps = append(l.steps, step{name, timeout, stop})
}

// goFunc runs f in a goroutine and pushes a step that cancels its context and waits for its return. An error of f is logged:
// every f of this program goes on until it is cancelled.
func (l *lifecycle) goFunc(name string, timeout time.Duration, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil && !errors.Is(err, context.Canceled) {
			l.log.Error("part ended", "part", name, "error", err)
		}
	}()
	l.onStop(name, timeout, func(stopCtx context.Context) error {
		cancel()
		select {
		case <-done:
			return nil
		case <-stopCtx.Done():
			return errors.New("still running")
		}
	})
}

// stop runs all steps and returns their errors, also to those who call it meanwhile or later. ctx shortens the steps' time-outs; it
// skips none.
func (l *lifecycle) stop(ctx context.Context) error {
	l.mu.Lock()
	if l.stopped != nil {
		l.mu.Unlock()
		<-l.stopped
		return l.err
	}
	l.stopped = make(chan struct{})
	steps := l.steps
	l.mu.Unlock()

	var errs []error
	for i := len(steps) - 1; i >= 0; i-- {
		s := steps[i]
		stepCtx, cancel := context.WithTimeout(ctx, s.timeout)
		began := time.Now()
		if err := s.stop(stepCtx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.name, err))
		}
		cancel()
		l.log.Debug("stopped", "part", s.name, "seconds", time.Since(began).Seconds())
	}
	l.err = errors.Join(errs...)
	close(l.stopped)
	return l.err
}
