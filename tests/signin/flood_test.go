package signin

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

// A flood of tokens that are not good, from many addresses, beside users who sign in: none of the
// flood gets in, each address fails a bounded number of times, and the users sign in. In a long run the
// flood is 100 000 tokens in a minute, and the users' times are printed, with it and without.
func TestFlood(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	caddytest.Load(t, strings.Replace(e.config(e.auth(spnLine), who), "level DEBUG", "level ERROR", 1))
	alice := e.user("alice")
	good := caddytest.Long(100, 5000)
	quiet := e.signIns(alice, good)
	garbage := e.forged(nil)
	garbage[len(garbage)-1] ^= 1 // the ticket opens, the authenticator does not
	stop := make(chan struct{})
	var flood sync.WaitGroup
	counts := make([]map[int]int, 10) // of answers of each address, by status
	begin := time.Now()
	for i := range counts {
		counts[i] = make(map[int]int)
		flood.Go(func() { e.flood(fmt.Sprintf("10.200.0.%d", i), garbage, len(counts), stop, counts[i]) })
	}
	loud := e.signIns(alice, good)
	close(stop)
	flood.Wait()
	took, sent := time.Since(begin), 0
	for i, n := range counts {
		refused, throttled := n[http.StatusUnauthorized], n[http.StatusTooManyRequests]
		if most := 20 + int(5*took.Seconds()) + 2; refused < 20 || refused > most || throttled == 0 || len(n) != 2 {
			t.Errorf("address %d got %v in %s, at most %d may be 401", i, n, took, most)
		}
		sent += refused + throttled
	}
	if os.Getenv(caddytest.LongEnv) == "1" {
		t.Logf("99th percentile of %d sign-ins: %s, beside %.0f bad tokens a minute: %s", good, quiet, float64(sent)/took.Minutes(), loud)
	}
}

// flood sends a token from an address again and again, as one of several senders of 100 000 a minute,
// until it is told to stop and has been throttled.
func (e *env) flood(address string, token []byte, senders int, stop <-chan struct{}, answers map[int]int) {
	client := e.Client()
	tick := time.NewTicker(time.Minute * time.Duration(senders) / 100_000)
	defer tick.Stop()
	for stopped := false; !stopped || answers[http.StatusTooManyRequests] == 0; {
		select {
		case <-stop:
			stopped = true
		case <-tick.C:
		}
		a, err := caddytest.Ask(client, e.Request(http.MethodGet, "/", from(address), caddytest.Bearing(token)))
		if err != nil {
			e.T.Error(err)
			return
		}
		answers[a.Status]++
	}
}

// signIns signs a user in n times, one after the other, and returns the 99th percentile of the times.
func (e *env) signIns(u *caddytest.User, n int) time.Duration {
	e.T.Helper()
	client, address := e.Client(), newAddress()
	var took []time.Duration
	for range n {
		r := e.Request(http.MethodGet, "/", from(address), u.SignIn)
		begin := time.Now()
		a, err := caddytest.Ask(client, r)
		took = append(took, time.Since(begin))
		if err == nil && a.Status != http.StatusOK {
			err = errors.New(a.String())
		}
		if err != nil {
			e.T.Fatal(err)
		}
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}
