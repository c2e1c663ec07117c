package caddytest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// Answer is a response, read to its end.
type Answer struct {
	Status          int
	Header, Trailer http.Header
	Body            string
}

func (a Answer) String() string {
	return fmt.Sprintf("%d %.80q, error %q %q, retry-after %q", a.Status, a.Body, a.Word(), a.Header.Get("X-Error-Code"), a.Header.Get("Retry-After"))
}

// Word is the plugin's error word, empty if it reported none.
func (a Answer) Word() string { return a.Header.Get("X-Error") }

// Source is where the ticket came from: kdc, cache or storage.
func (a Answer) Source() string { return a.Header.Get("X-Source") }

// IsUser reports whether the upstream authenticated the user.
func (a Answer) IsUser(principal string) bool {
	return a.Status == http.StatusOK && strings.TrimSpace(a.Body) == principal
}

// WantUser fails unless the upstream authenticated the user.
func (a Answer) WantUser(t *testing.T, principal string) {
	t.Helper()
	if !a.IsUser(principal) {
		t.Fatalf("got %v, want 200 and %s", a, principal)
	}
}

// WantError fails unless the plugin refused the request with an error word and, if
// given, a Kerberos code: the handler through handle_errors, the transport by itself.
func (a Answer) WantError(t *testing.T, status int, word string, code ...string) {
	t.Helper()
	if !a.IsError(status, word) || len(code) > 0 && a.Header.Get("X-Error-Code") != code[0] {
		t.Fatalf("got %v, want %d %s %q", a, status, word, code)
	}
}

// IsError reports whether the plugin refused the request with an error word.
func (a Answer) IsError(status int, word string) bool {
	byHandler, byTransport := fmt.Sprintf("%d %s", status, word), "The proxy could not sign in to the server behind it ("+word+").\n"
	return a.Status == status && a.Word() == word && (a.Body == byHandler || a.Body == byTransport)
}

// Peer is what the upstream's /peer.json says about the authenticated client.
func (a Answer) Peer(t *testing.T) kdctest.Peer {
	t.Helper()
	var p kdctest.Peer
	if err := json.Unmarshal([]byte(a.Body), &p); err != nil {
		t.Fatalf("%v: %v", a, err)
	}
	return p
}

// Client is an HTTP client with connections of its own. It follows no redirect.
func Client(t *testing.T) *http.Client {
	c := newClient()
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func newClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Request makes a request for a URL.
func Request(t *testing.T, method, url string, change ...func(*http.Request)) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(r)
	}
	return r
}

// Ask sends a request and reads the response.
func Ask(client *http.Client, r *http.Request) (Answer, error) {
	res, err := client.Do(r)
	if r.Body == nil && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
		// During a reload the kernel may hand a connection to the old server, which
		// closes it. Browsers repeat such a request, too.
		res, err = client.Do(r)
	}
	if err != nil {
		return Answer{}, err
	}
	return Read(res)
}

// Read reads a response to its end.
func Read(res *http.Response) (Answer, error) {
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return Answer{res.StatusCode, res.Header, res.Trailer, string(body)}, err
}

// Do sends a request over a new connection.
func Do(t *testing.T, r *http.Request) Answer {
	t.Helper()
	client := newClient()
	defer client.CloseIdleConnections()
	a, err := Ask(client, r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Request makes a request for a path at the first site.
func (c *Caddy) Request(method, path string, change ...func(*http.Request)) *http.Request {
	c.T.Helper()
	return Request(c.T, method, c.URL(path), change...)
}

// Get asks the first site for a path, over a new connection.
func (c *Caddy) Get(path string, change ...func(*http.Request)) Answer {
	c.T.Helper()
	return Do(c.T, c.Request(http.MethodGet, path, change...))
}

// Client is an HTTP client with connections of its own.
func (c *Caddy) Client() *http.Client { return Client(c.T) }

// ErrStop ends the goroutine that returns it to Parallel, and is no failure.
var ErrStop = errors.New("stop")

// Parallel calls do with the numbers below n, width calls at a time, and returns its
// errors.
func Parallel(n, width int, do func(i int) error) []error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		next int
		errs []error
	)
	for range width {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= n {
					return
				}
				err := do(i)
				if errors.Is(err, ErrStop) {
					return
				}
				if err != nil {
					mu.Lock()
					errs = append(errs, fmt.Errorf("request %d: %w", i, err))
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return errs
}

// All is Parallel for calls that must all succeed.
func All(t *testing.T, n, width int, do func(i int) error) {
	t.Helper()
	if errs := Parallel(n, width, do); len(errs) > 0 {
		t.Fatalf("%d of %d requests failed, first: %v", len(errs), n, errs[0])
	}
}

// GetMany asks the first site n times for a path, width requests at a time over kept
// connections, and fails unless ok reports true of each answer.
func (c *Caddy) GetMany(n, width int, path string, ok func(Answer) bool) {
	c.T.Helper()
	client := c.Client()
	All(c.T, n, width, func(int) error {
		a, err := Ask(client, c.Request(http.MethodGet, path))
		if err == nil && !ok(a) {
			err = errors.New(a.String())
		}
		return err
	})
}
