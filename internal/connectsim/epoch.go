package connectsim

import (
	"strconv"
	"time"
)

// epoch is a time as restJson1 sends it: seconds since 1970 with a fraction.
type epoch time.Time

// MarshalJSON writes milliseconds as fraction.
func (e epoch) MarshalJSON() ([]byte, error) {
	ms := time.Time(e).UnixMilli()
	b := strconv.AppendInt(nil, ms/1000, 10)
	if f := ms % 1000; f != 0 {
		b = append(b, '.', byte('0'+f/100), byte('0'+f/10%10), byte('0'+f%10))
	}
	return b, nil
}

// epochOf a moment of the simulation; nil for none.
func (s *Sim) epochOf(d time.Duration) *epoch {
	if d < 0 {
		return nil
	}
	e := epoch(s.time(d))
	return &e
}

// created is when the instance and its users were made.
func (s *Sim) created() time.Time { return s.start.Add(-90 * 24 * time.Hour).Truncate(time.Second) }
