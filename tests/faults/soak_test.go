package faults

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// SoakEnv names the environment variable that says how long the soak takes.
const SoakEnv = "CADDY_NEGOTIATE_SOAK"

// datagramFaults are faults of datagrams that come and go during the soak. None lasts as
// long as a ticket's last third, so that none may be felt.
var datagramFaults = map[string]func() kdctest.Fault{
	"silent":      func() kdctest.Fault { return kdctest.UDP(kdctest.Silent()) },
	"lossy":       func() kdctest.Fault { return kdctest.Every(2, kdctest.Lose()) },
	"deaf":        func() kdctest.Fault { return kdctest.Every(2, kdctest.LoseReply()) },
	"garbage":     func() kdctest.Fault { return kdctest.UDP(kdctest.Garbage(200)) },
	"cut":         func() kdctest.Fault { return kdctest.UDP(kdctest.Cut(50)) },
	"nonce":       func() kdctest.Fault { return kdctest.UDP(kdctest.WrongNonce()) },
	"stale":       func() kdctest.Fault { return kdctest.UDP(kdctest.Stale()) },
	"forged 18":   func() kdctest.Fault { return kdctest.UDP(kdctest.ForgeFirst(messages.KDC_ERR_CLIENT_REVOKED)) },
	"forged 24":   func() kdctest.Fault { return kdctest.UDP(kdctest.ForgeFirst(messages.KDC_ERR_PREAUTH_FAILED)) },
	"too big":     kdctest.TooBig,
	"stream only": kdctest.StreamOnly,
}

// streamFaults are faults of streams too. One that is swallowed is waited for as long as
// `timeout` says, so that these belong to tickets that last longer.
var streamFaults = map[string]func() kdctest.Fault{
	"all silent": kdctest.Silent,
	"all nonces": kdctest.WrongNonce,
	"reset":      kdctest.Reset,
	"cut short":  func() kdctest.Fault { return kdctest.Cut(50) },
}

// soak is what happens while it lasts.
type soak struct {
	*env
	upstreamAt atomic.Int64 // grows when an upstream's fault comes or goes: odd while one is there
	faults     map[string]int
	faultsNow  map[string]func() kdctest.Fault
	life       time.Duration

	mu                            sync.Mutex
	requests, upstreams           int
	unexplained                   []error
	heap, goroutines, descriptors []int
}

func TestSoak(t *testing.T) {
	length := 20 * time.Second
	if text := os.Getenv(SoakEnv); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil || length > time.Hour {
			t.Fatalf("%s: %q is no time span up to an hour", SoakEnv, text)
		}
	} else if os.Getenv(caddytest.LongEnv) != "1" {
		t.Skipf("twenty seconds: only with tests/run -long, or %s=10m", SoakEnv)
	}
	s := &soak{env: newEnv(t), faults: make(map[string]int)}
	s.level = "ERROR\nexclude http.log.error http.handlers.reverse_proxy"
	s.life, s.faultsNow = 12*time.Second, maps.Clone(datagramFaults)
	if length > time.Minute {
		s.life = time.Minute
		maps.Copy(s.faultsNow, streamFaults)
	}
	s.Realm.SetLifetimes(s.life, 0)
	// What is swallowed once is asked for again after a second; the rest is for a busy machine.
	s.load(s.usual("timeout 5s"), s.usual("timeout 5s", "encryption_types aes128-cts-hmac-sha1-96"))
	// What the acceptor remembers of replays is the test's memory, not Caddy's: let it
	// be full soon, so that growth of what is measured can be seen.
	s.UpdateAcceptor(func(c *kdctest.AcceptorConfig) { c.MaxSkew = 10 * time.Second })
	s.wantServed()

	end := time.Now().Add(length)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { s.traffic(s.sites[i%2], end) })
	}
	s.injectFaults(end)
	wg.Wait()
	s.measure()
	s.report(length)
}

// traffic asks a site 50 times a second.
func (s *soak) traffic(site string, end time.Time) {
	client := s.Client()
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for at := range pace.C {
		if at.After(end) {
			return
		}
		before := s.upstreamAt.Load()
		a, err := caddytest.Ask(client, caddytest.Request(s.T, http.MethodGet, "http://"+site+"/"))
		if err == nil && !isServed(a) {
			err = errors.New(a.String())
		}
		explained := before%2 == 1 || s.upstreamAt.Load() != before
		s.mu.Lock()
		s.requests++
		switch {
		case err == nil:
		case explained && (a.Status == 502 || a.Status == 401):
			s.upstreams++
		default:
			s.unexplained = append(s.unexplained, err)
		}
		s.mu.Unlock()
	}
}

// injectFaults has a fault come every second and go after half of one.
func (s *soak) injectFaults(end time.Time) {
	names := slices.Sorted(maps.Keys(s.faultsNow))
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		at := <-tick.C
		if at.After(end) {
			return
		}
		switch {
		case n%2 == 1:
			s.KDC.ClearFaults()
		case n%10 == 8:
			s.faults["upstream away"]++
			s.restartUpstream(tick)
		case n%120 == 4: // a service changes its key rarely, and refusals are rationed
			s.faults["upstream's key changed"]++
			s.upstreamAt.Add(1)
			s.ChangeServiceKey()
			s.upstreamAt.Add(1)
		default:
			name := names[rand.IntN(len(names))]
			s.faults[name]++
			s.KDC.Use(s.faultsNow[name]())
		}
		if n%8 == 0 {
			s.measure()
		}
	}
}

// restartUpstream has the upstream away until the next tick.
func (s *soak) restartUpstream(tick *time.Ticker) {
	s.upstreamAt.Add(1)
	defer s.upstreamAt.Add(1)
	if err := s.Upstream.Interrupt(); err != nil {
		s.T.Error(err)
	}
	<-tick.C
	if err := s.Upstream.Start(); err != nil {
		s.T.Error(err)
	}
}

// measure notes what the process takes.
func (s *soak) measure() {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	open, _ := os.ReadDir("/proc/self/fd") // none elsewhere
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heap = append(s.heap, int(m.HeapAlloc>>10))
	s.goroutines = append(s.goroutines, runtime.NumGoroutine())
	s.descriptors = append(s.descriptors, len(open))
}

func (s *soak) report(length time.Duration) {
	t := s.T
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.KDC.Counts()
	t.Logf("soak of %v over tickets of %v: %d requests, %d met an upstream at fault, %d failed unexplained; %d logins, %d exchanges",
		length, s.life, s.requests, s.upstreams, len(s.unexplained), c.ASRep, c.TGSRep)
	for _, name := range slices.Sorted(maps.Keys(s.faults)) {
		t.Logf("  %2d times: %s", s.faults[name], name)
	}
	for _, row := range []struct {
		what  string
		seen  []int
		grown int
	}{
		{"KiB of heap", s.heap, 16 << 10},
		{"goroutines", s.goroutines, 60},
		{"descriptors", s.descriptors, 60},
	} {
		early, late := slices.Max(row.seen[:max(1, len(row.seen)/2)]), row.seen[len(row.seen)-1]
		t.Logf("  %s: %s", row.what, fmt.Sprint(row.seen))
		if late > early+row.grown {
			t.Errorf("%s grew from %d to %d", row.what, early, late)
		}
	}
	if len(s.unexplained) > 0 {
		t.Errorf("%d requests failed unexplained, first: %v", len(s.unexplained), s.unexplained[0])
	}
	if most := int(length/(6*time.Second)+2) * 2 * 3; c.TGSRep > most {
		t.Errorf("%d exchanges, more than %d", c.TGSRep, most)
	}
}
