package stream

import (
	"strings"

	"changeover/internal/store"
)

// A ring remembers tens of thousands of events, and those of a shift differ in a few things: whose, when, of which failover, with which contacts, and
// their place in the log. Of an event whose other text many have, only these are kept, and its frame is made again when somebody has missed it.

// packed is an event in a ring.
type packed struct {
	whole *frame // as it was sent, where it cannot be packed; nil: it is packed

	seq, epoch int64
	committed  int64
	delivery   *delivery
	agentID    string
	shape      *shape
	time       [timeSize]byte
	failoverID [failoverIDSize]byte
	contactIDs []string // the view's
}

// The lengths of texts that can be packed: of a time in milliseconds, and of a UUID.
const (
	timeSize       = 24
	failoverIDSize = 36
)

// shape is what many events have in common: their name, and their data before, between and behind what differs.
type shape struct {
	name               string
	failover, contacts bool // there are any
	text               [5]string
}

// maxShapes is how many are kept: a few for each name and pair of Regions. Events of any further are remembered whole.
const maxShapes = 256

// pack makes what is remembered of an event; d is nil where its data could not be read.
func (m *memory) pack(row *store.LogEvent, d *eventData, f *frame) packed {
	p := packed{seq: f.position.Seq}
	s := m.shapeOf(row.Data, d, f)
	if s == nil {
		p.whole = f
		return p
	}
	p.epoch, p.committed, p.delivery, p.agentID, p.shape = f.position.Epoch, f.committed, f.delivery, f.agentID, s
	copy(p.time[:], d.plain.time.of(row.Data))
	copy(p.failoverID[:], d.plain.failoverID.of(row.Data))
	if s.contacts {
		p.contactIDs = d.ContactIDs
	}
	return p
}

// shapeOf returns the shape of an event; nil: it has none, or one of its own.
func (m *memory) shapeOf(data []byte, d *eventData, f *frame) *shape {
	if d == nil {
		return nil
	}
	at, none := d.plain, span{}
	differ := append(make([]span, 0, 4), at.agentID, at.time) // in the order in which the service writes them
	if at.failoverID != none {
		differ = append(differ, at.failoverID)
	}
	if at.contactIDs != none {
		differ = append(differ, at.contactIDs)
	}
	switch {
	case f.name == "" || at.agentID == none || string(at.agentID.of(data)) != f.agentID:
		return nil
	case at.time.to-at.time.from != timeSize, at.failoverID != none && at.failoverID.to-at.failoverID.from != failoverIDSize:
		return nil
	}
	key, from := append(m.key[:0], f.name...), int32(0)
	for _, s := range differ {
		if s.from < from {
			return nil
		}
		key = append(append(key, 0), data[from:s.from]...) // 0 is in no JSON
		from = s.to
	}
	key = append(append(key, 0), data[from:]...)
	m.key = key
	if s := m.shapes[string(key)]; s != nil || len(m.shapes) == maxShapes {
		return s
	}
	s := &shape{name: f.name, failover: at.failoverID != none, contacts: at.contactIDs != none}
	for i, text := range strings.Split(string(key), "\x00")[1:] {
		s.text[i] = text
	}
	m.shapes[string(key)] = s
	return s
}

// unpack returns the frame of an event, byte for byte as it was sent.
func (m *memory) unpack(p *packed) *frame {
	if p.whole != nil {
		return p.whole
	}
	s := p.shape
	b := append(make([]byte, 0, 512), fieldID...)
	b = Cursor{LogID: m.logID, Epoch: p.epoch, Seq: p.seq}.append(b)
	id := len(b) - len(fieldID)
	b = append(append(b, fieldData...), s.text[0]...)
	b = append(append(b, p.agentID...), s.text[1]...)
	b = append(append(b, p.time[:]...), s.text[2]...)
	text := s.text[3:]
	if s.failover {
		b = append(append(b, p.failoverID[:]...), text[0]...)
		text = text[1:]
	}
	if s.contacts {
		b = append(b, '[')
		for i, id := range p.contactIDs {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(append(b, '"'), id...), '"')
		}
		b = append(append(b, ']'), text[0]...)
	}
	b = append(append(append(b, fieldEvent...), s.name...), frameEnd...)
	return &frame{
		piece: newPiece(b), name: s.name, id: id, position: store.Position{Epoch: p.epoch, Seq: p.seq},
		agentID: p.agentID, committed: p.committed, delivery: p.delivery,
	}
}
