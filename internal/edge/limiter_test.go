package edge

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

func from(address string, header ...string) *http.Request {
	r := request(http.MethodGet, "/v1/agents", header...)
	r.RemoteAddr = address
	return r
}

func TestBurstAndRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMetrics(nil)
		l := NewLimiter(5, 0, m)
		desktop := from("192.0.2.1:1", "Authorization", "Bearer one")
		for range 50 {
			require.Zero(t, l.Wait(desktop))
		}
		require.Equal(t, 200*time.Millisecond, l.Wait(desktop), "ten seconds' worth at once")
		require.Equal(t, 200*time.Millisecond, l.Wait(desktop), "what is refused does not count")
		require.Zero(t, l.Wait(from("192.0.2.1:1", "Authorization", "Bearer two")), "another token from there")
		time.Sleep(time.Second)
		for range 5 {
			require.Zero(t, l.Wait(desktop))
		}
		require.Positive(t, l.Wait(desktop))
		time.Sleep(time.Hour)
		for range 50 {
			require.Zero(t, l.Wait(desktop))
		}
		require.Positive(t, l.Wait(desktop), "it does not save up")
		require.InDelta(t, 4, testutil.ToFloat64(m.limited.WithLabelValues("token")), 0)
		require.InDelta(t, 0, testutil.ToFloat64(m.limited.WithLabelValues("address")), 0)
	})
}

// A flood with made-up tokens, a new one in each request: each is new to the table of tokens, and the address pays. IPv6 has more
// addresses than anybody can count, and counts by network.
func TestMadeUpTokensCountForTheAddress(t *testing.T) {
	t.Parallel()
	for name, address := range map[string]func(n int) string{
		"one address":        func(n int) string { return fmt.Sprintf("198.51.100.1:%d", n%60000+1) },
		"one IPv6 network":   func(n int) string { return fmt.Sprintf("[2001:db8::%x:%x]:1", n>>8, n&0xff+1) },
		"IPv4 as IPv6":       func(n int) string { return []string{"198.51.100.1:1", "[::ffff:198.51.100.1]:1"}[n%2] },
		"behind a proxy":     func(int) string { return "198.51.100.1" },
		"IPv6 behind a zone": func(n int) string { return fmt.Sprintf("[fe80::1%%eth%d]:1", n) },
	} {
		synctest.Test(t, func(t *testing.T) {
			m := NewMetrics(nil)
			l := NewLimiter(5, 20, m)
			let := 0
			for n := range 1000 {
				if l.Wait(from(address(n), "Authorization", fmt.Sprint("Bearer ", rand.Int64()))) == 0 {
					let++
				}
			}
			require.Equal(t, 200, let, name)
			require.InDelta(t, 800, testutil.ToFloat64(m.limited.WithLabelValues("address")), 0, name)
			require.Zero(t, l.Wait(from("192.0.2.1:1", "Authorization", "Bearer x")), "somebody else")
		})
	}
}

func TestNoLimits(t *testing.T) {
	t.Parallel()
	l := NewLimiter(0, 0, nil)
	for range 10_000 {
		require.Zero(t, l.Wait(from("192.0.2.1:1", "Authorization", "Bearer x")))
	}
}

// Flooding the sign-in, which asks the identity provider.
func TestPagesAreLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		served := 0
		h := NewLimiter(0, 1, nil).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ }))
		var w *httptest.ResponseRecorder
		for range 11 {
			w = httptest.NewRecorder()
			h.ServeHTTP(w, from("192.0.2.1:1"))
		}
		require.Equal(t, 10, served)
		require.Equal(t, http.StatusTooManyRequests, w.Code)
		require.Equal(t, "2", w.Header().Get("Retry-After"))
	})
}

// One token in several disguises is one token.
func TestCredential(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		header []string
		want   string
	}{
		"none":                   {nil, ""},
		"a header":               {[]string{"Authorization", "Bearer a.b.c"}, "a.b.c"},
		"in another case":        {[]string{"authorization", "bearer a.b.c"}, "a.b.c"},
		"with spaces":            {[]string{"Authorization", "Bearer   a.b.c  "}, "a.b.c"},
		"a cookie":               {[]string{"Cookie", "theme=dark; __Host-changeover=a.b.c; x=y"}, "a.b.c"},
		"cookies of HTTP/2":      {[]string{"Cookie", "theme=dark", "Cookie", "__Host-changeover=a.b.c"}, "a.b.c"},
		"the header before":      {[]string{"Cookie", "__Host-changeover=old", "Authorization", "Bearer a.b.c"}, "a.b.c"},
		"another cookie":         {[]string{"Cookie", "x__Host-changeover=a.b.c; __Host-changeover2=d"}, ""},
		"a cookie without value": {[]string{"Cookie", "__Host-changeover"}, ""},
	} {
		require.Equal(t, test.want, credential(from("192.0.2.1:1", test.header...)), name)
	}
}

// Memory exhaustion by tokens: the table has one size, whatever is sent, and holds nothing but numbers: a credential is not kept, nor
// anything of it.
func TestTablesAreOfFixedSize(t *testing.T) {
	t.Parallel()
	size := reflect.TypeFor[table]().Size()
	require.Less(t, size, uintptr(1<<20))
	numbers(t, reflect.TypeFor[set]().Field(1).Type)
	numbers(t, reflect.TypeFor[set]().Field(2).Type)
	require.Equal(t, 3, reflect.TypeFor[set]().NumField())
	require.Equal(t, 2, reflect.TypeFor[table]().NumField())
}

func numbers(t *testing.T, array reflect.Type) {
	t.Helper()
	require.Contains(t, []reflect.Kind{reflect.Uint64, reflect.Int64}, array.Elem().Kind())
}

// Washing away a debt: somebody at the limit floods the table with other tokens so that it forgets. It does not: the others owe less.
func TestAFloodDoesNotWashAwayADebt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(5, 0, nil)
		debtor := from("198.51.100.1:1", "Authorization", "Bearer debtor")
		for l.Wait(debtor) == 0 {
		}
		flood := from("198.51.100.1:1", "Authorization", "")
		for n := range 5 * sets * ways {
			flood.Header["Authorization"][0] = "Bearer " + strconv.Itoa(n)
			if l.Wait(flood) > 0 || n%10_000 == 0 && l.Wait(debtor) == 0 {
				require.Fail(t, "the table has forgotten, or mixed up", "after %d", n)
			}
		}
		require.Positive(t, l.Wait(debtor))
	})
}

// As many honest desktops as a replica serves do not push one another out of their rates, and none is ever refused.
func TestHonestDesktopsAreNeverLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(500, 10_000, nil) // the defaults
		const desktops = 50_000
		// A replica was lost: all come back within some seconds, through one NAT, each with a ticket, a stream and a report.
		r := from("192.0.2.1:1", "Authorization", "")
		for n := range desktops {
			r.Header["Authorization"][0] = "Bearer " + strconv.Itoa(n)
			for range 3 {
				if l.Wait(r) > 0 {
					require.Fail(t, "a desktop was refused", "number %d", n)
				}
			}
			if n%100 == 0 {
				time.Sleep(20 * time.Millisecond)
			}
		}
	})
}
