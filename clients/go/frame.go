package changeover

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// maxLine is longer than any line of the service: an event of an agent with thousands of contacts has less.
const maxLine = 1 << 20

// frame is a block of a stream up to its empty line: an event, or, without data, a retry or a comment.
type frame struct {
	id, event string
	data      []byte
	retry     time.Duration // 0: none was told
}

// frames reads a stream as the WHATWG HTML standard says in "Server-sent events", except for lone CRs, which the service never writes.
// A frame that is cut off is none.
type frames struct{ lines *bufio.Reader }

func newFrames(r io.Reader) *frames { return &frames{bufio.NewReaderSize(r, 4096)} }

// next returns the next frame; a heartbeat is an empty one. The error is that of the reader, io.EOF at the end.
func (r *frames) next() (frame, error) {
	var f frame
	for {
		line, err := r.line()
		if err != nil {
			return frame{}, err
		}
		if len(line) == 0 {
			return f, nil
		}
		field, value, _ := bytes.Cut(line, []byte{':'})
		value = bytes.TrimPrefix(value, []byte{' '})
		switch string(field) {
		case "id":
			if !bytes.Contains(value, []byte{0}) {
				f.id = string(value)
			}
		case "event":
			f.event = string(value)
		case "data":
			if f.data != nil {
				f.data = append(f.data, '\n')
			}
			f.data = append(f.data, value...)
		case "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				f.retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
}

// line returns a line without its end, true until the next call.
func (r *frames) line() ([]byte, error) {
	line, err := r.lines.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		long := bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			if len(long) > maxLine {
				return nil, fmt.Errorf("a line of more than %d bytes: this is no event stream of Changeover", maxLine)
			}
			line, err = r.lines.ReadSlice('\n')
			long = append(long, line...)
		}
		line = long
	}
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'}), nil
}
