//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// floor writes the frames of a shift to as many sockets as the service did and does nothing else, as a process of its own. It prints
// its address, is told each of its agents by a connection that asks for that agent's stream, and writes once the standard input
// has a line. It ends with the input.
type floor struct {
	Database string `help:"Where the events are." required:""`
	After    int64  `help:"Write the events after this one." required:""`
	Streams  int    `help:"How many connections to wait for." required:""`
}

// Run is the process.
func (f *floor) Run(ctx context.Context) error {
	if _, err := streamsPerProcess(); err != nil {
		return err
	}
	frames, err := framesOf(ctx, f.Database, f.After)
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer l.Close()
	say := json.NewEncoder(os.Stdout)
	if err := say.Encode(l.Addr().String()); err != nil {
		return err
	}
	conns := make([]net.Conn, f.Streams)
	ids := make([]string, f.Streams)
	buf := make([]byte, 4096)
	for i := range conns {
		if conns[i], err = l.Accept(); err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		n, err := conns[i].Read(buf)
		if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		path := strings.TrimPrefix(string(buf[:n]), "GET /v1/agents/")
		ids[i], _, _ = strings.Cut(path, "/")
		if _, err := conns[i].Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: snapshot\ndata: {}\n\n")); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
	in := bufio.NewScanner(os.Stdin)
	if !in.Scan() {
		return in.Err()
	}
	var wg sync.WaitGroup
	failed := make(chan error, 1)
	lanes := runtime.GOMAXPROCS(0)
	for lane := range lanes {
		wg.Go(func() {
			for i := lane; i < len(conns); i += lanes {
				for _, frame := range frames[ids[i]] {
					if _, err := conns[i].Write(frame); err != nil {
						select {
						case failed <- err:
						default:
						}
					}
				}
			}
		})
	}
	wg.Wait()
	in.Scan()
	select {
	case err := <-failed:
		return err
	default:
		return in.Err()
	}
}

// framesOf are the frames that the service sent of the events after one, by agent, as chunks of HTTP.
func framesOf(ctx context.Context, database string, after int64) (map[string][][]byte, error) {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return nil, fmt.Errorf("read the events: %w", err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT agent_id, type, epoch, seq, data::text, (SELECT log_id FROM event_log) FROM events WHERE seq > $1 ORDER BY seq", after)
	if err != nil {
		return nil, fmt.Errorf("read the events: %w", err)
	}
	frames := map[string][][]byte{}
	var agent, kind, data, log string
	var epoch, seq int64
	_, err = pgx.ForEachRow(rows, []any{&agent, &kind, &epoch, &seq, &data, &log}, func() error {
		frame := fmt.Sprintf("id: %s-%d-%d\ndata: %s\nevent: %s\n\n", log, epoch, seq, data, kind)
		frames[agent] = append(frames[agent], fmt.Appendf(nil, "%x\r\n%s\r\n", len(frame), frame))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the events: %w", err)
	}
	return frames, nil
}

// copied is what COPY took for the rows that a shift wrote.
type copied struct {
	Rows    map[string]int64 `json:"rows"`
	Bytes   int              `json:"bytes"`
	Seconds float64          `json:"seconds"`
}

// copyRows writes the rows of a shift again, into empty tables without indexes, in one transaction: agents and failovers once, as they ended.
func copyRows(ctx context.Context, conn *pgx.Conn, afterSeq int64, since time.Time) (c copied, err error) {
	c.Rows = map[string]int64{}
	tables := []struct{ name, rows string }{
		{"events", fmt.Sprintf("SELECT * FROM events WHERE seq > %d", afterSeq)},
		{"failovers", fmt.Sprintf("SELECT * FROM failovers WHERE detected_at >= '%s'", since.Format(time.RFC3339Nano))},
		{"agents", "SELECT * FROM agents"},
	}
	rows := make([]bytes.Buffer, len(tables))
	for i, t := range tables {
		if _, err := conn.PgConn().CopyTo(ctx, &rows[i], "COPY ("+t.rows+") TO STDOUT (FORMAT binary)"); err != nil {
			return c, fmt.Errorf("read %s: %w", t.name, err)
		}
		c.Bytes += rows[i].Len()
		if _, err := conn.Exec(ctx, "CREATE TABLE floor_"+t.name+" (LIKE "+t.name+")"); err != nil {
			return c, fmt.Errorf("make an empty table: %w", err)
		}
	}
	began := time.Now()
	err = pgx.BeginFunc(ctx, conn, func(pgx.Tx) error {
		for i, t := range tables {
			tag, err := conn.PgConn().CopyFrom(ctx, &rows[i], "COPY floor_"+t.name+" FROM STDIN (FORMAT binary)")
			if err != nil {
				return fmt.Errorf("copy %s: %w", t.name, err)
			}
			c.Rows[t.name] = tag.RowsAffected()
		}
		return nil
	})
	c.Seconds = time.Since(began).Seconds()
	if err == nil && c.Rows["events"] == 0 {
		err = errors.New("the shift wrote no events")
	}
	return c, err
}
