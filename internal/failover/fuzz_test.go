package failover

import "testing"

// FuzzStep reads bytes as a history, as the property tests do, and has the witness check each step of it.
func FuzzStep(f *testing.F) {
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) > 1000 {
			return // what cannot be shown by some hundred observations is found by luck only
		}
		m := &monkey{bytes: choices}
		s := m.service(t)
		for !m.done() {
			for _, mv := range m.moves() {
				s.play(mv)
			}
		}
	})
}
