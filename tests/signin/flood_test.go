package signin

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

// A flood of tokens that are not good, beside users who sign in: none of the flood gets in, an
// address fails a bounded number of times, and the users sign in. Half of the senders keep their
// address, the others have a new one for each token. The flood is sent at 100 000 tokens a minute,
// in a long run for all of it: then the users must not wait more than twice as long as without it.
func TestFlood(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	caddytest.Load(t, strings.Replace(e.config(e.auth(spnLine), who), "level DEBUG", "level ERROR", 1))
	alice := e.user("alice")
	const senders, interval = 20, time.Minute / 100_000
	each := caddytest.Long(2000, 100_000) / senders
	n := 0
	quiet := e.signIns(alice, func() bool { n++; return n > caddytest.Long(100, 5000) })
	garbage := e.forged(nil)
	garbage[len(garbage)-1] ^= 1 // the ticket opens, the authenticator does not
	var flood sync.WaitGroup
	var counts [senders]map[int]int // of answers of each address, by status
	begin := time.Now()
	for i := range counts {
		address := func(int) string { return fmt.Sprintf("10.200.0.%d", i) }
		if i >= senders/2 {
			address = func(n int) string { return fmt.Sprintf("2001:db8:%x:%x::1", i, n) }
		}
		flood.Go(func() { counts[i] = e.flood(address, garbage, each, senders*interval) })
	}
	ended := make(chan struct{})
	go func() { flood.Wait(); close(ended) }()
	loud := e.signIns(alice, func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
	took := time.Since(begin)
	for i, n := range counts {
		refused, throttled := n[http.StatusUnauthorized], n[http.StatusTooManyRequests]
		if i >= senders/2 {
			if refused != each || len(n) != 1 {
				t.Errorf("%d addresses got %v", each, n)
			}
			continue
		}
		if most := 20 + int(5*took.Seconds()) + 2; refused < 20 || refused > most || throttled == 0 || len(n) != 2 {
			t.Errorf("address %d got %v in %s, at most %d may be 401", i, n, took, most)
		}
	}
	if os.Getenv(caddytest.LongEnv) == "1" {
		t.Logf("99th percentile of sign-ins: %s, beside %d bad tokens in %s: %s", quiet, senders*each, took, loud)
		if loud > 2*quiet || took > 66*time.Second {
			t.Error("want at most twice as long, and a minute")
		}
	}
}

// flood sends a token n times over one connection, one at each interval, or as soon after it as it can. It
// returns how often each status was answered. It takes as little of the machine as it can, which the server needs.
func (e *env) flood(address func(n int) string, token []byte, n int, interval time.Duration) map[int]int {
	answers := make(map[int]int)
	conn, err := (&net.Dialer{}).DialContext(e.T.Context(), "tcp", e.Addr)
	if err != nil {
		e.T.Error(err)
		return answers
	}
	defer conn.Close()
	in, header := bufio.NewReader(conn), base64.StdEncoding.EncodeToString(token)
	for i, begin := 0, time.Now(); i < n; i++ {
		<-time.After(time.Until(begin.Add(time.Duration(i) * interval)))
		_, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nX-Forwarded-For: %s\r\nAuthorization: Negotiate %s\r\n\r\n", e.Addr, address(i), header)
		if err != nil {
			e.T.Error(err)
			return answers
		}
		a, err := http.ReadResponse(in, nil)
		if err == nil {
			_, err = io.Copy(io.Discard, a.Body)
		}
		if err != nil {
			e.T.Error(err)
			return answers
		}
		answers[a.StatusCode]++
	}
	return answers
}

// signIns signs a user in, one time after the other until it is done, and returns the 99th percentile of the
// times.
func (e *env) signIns(u *caddytest.User, done func() bool) time.Duration {
	e.T.Helper()
	client, address := e.Client(), newAddress()
	var took []time.Duration
	for !done() {
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
