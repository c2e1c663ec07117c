package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// policy allows the page only its inline style and images in data URLs.
var policy = func() string {
	_, style, _ := strings.Cut(pageText, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; img-src data:; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
}()

// showcase is the web server's handler: a page for browsers, text for other clients. All
// its requests are authenticated.
type showcase struct {
	kdc    *kdctest.KDC
	caddy  string // URL
	signIn bool   // users sign in, and come by their own names
	now    func() time.Time

	mu       sync.Mutex
	stopped  bool
	requests int // all of them
	tickets  []ticket
	rate     rate
}

// ticket is one that requests came with.
type ticket struct {
	user        string
	begun, ends time.Time // when it was first seen, and its end
	requests    int
}

// shownTickets is how many tickets the page shows, the latest ones.
const shownTickets = 3

// shownSeconds is how far back the graph of requests goes.
const shownSeconds = 60

// rate counts requests in each of the last seconds.
type rate struct {
	second int64 // of the last count
	counts [shownSeconds]int
}

// pass lets the seconds pass until one.
func (r *rate) pass(second int64) {
	for ; r.second < second; r.second++ {
		if second-r.second > shownSeconds {
			r.second, r.counts = second-1, [shownSeconds]int{}
		}
		copy(r.counts[:], r.counts[1:])
		r.counts[shownSeconds-1] = 0
	}
}

// graph draws the counts, ten units of width a second and at most a hundred of height, and says how
// many the most in a second are.
func (r *rate) graph() (path string, most int) {
	most = slices.Max(r.counts[:])
	var d strings.Builder
	for i, n := range r.counts {
		if n > 0 {
			fmt.Fprintf(&d, "M%d 100v-%d", 10*i+5, max(2, 100*n/most))
		}
	}
	return d.String(), most
}

// view is the data of the page.
type view struct {
	Peer               *kdctest.Peer
	SignIn             bool
	Without            string // status of a request without a ticket, where users sign in
	Requests, ByTicket int
	KDCUp              bool
	Logins, Tickets    string
	Ends, Left         string
	Did                string // what the last click was for
	Graph              string // of requests, as a path
	Most               int    // requests in a second of it
	Lives              []life // of tickets, the latest first
}

// life is how the page shows a ticket.
type life struct {
	User, Since, Ends, Requests string
	Lived                       int // percent
}

// ServeHTTP implements http.Handler.
func (s *showcase) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	peer, ok := kdctest.PeerFrom(r.Context())
	if !ok {
		http.Error(w, "request is not authenticated", http.StatusInternalServerError)
		return
	}
	v := s.count(peer)
	browser := strings.Contains(r.Header.Get("Accept"), "text/html")
	switch {
	case r.URL.Path == "/kdc" && r.Method == http.MethodPost:
		if err := s.turn(r.FormValue("kdc")); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		http.Redirect(w, r, "/?do=kdc", http.StatusSeeOther)
	case r.URL.Path == "/burst" && r.Method == http.MethodPost:
		for range burstSize {
			if _, err := s.request(r.Context()); err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
		}
		http.Redirect(w, r, "/?do=burst", http.StatusSeeOther)
	case r.URL.Path == "/favicon.ico":
		http.NotFound(w, r)
	case r.URL.Path == "/" && browser:
		v.Did = r.FormValue("do")
		if s.signIn {
			var err error
			if v.Without, err = s.request(r.Context()); err != nil {
				v.Without = err.Error()
			}
		}
		writePage(w, v)
	default:
		kdctest.WhoHandler(w, r)
	}
}

// count counts a request. It identifies a ticket by its user and its end: the user's next one ends later.
func (s *showcase) count(peer *kdctest.Peer) view {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.requests++
	this := slices.IndexFunc(s.tickets, func(t ticket) bool { return t.user == peer.User && t.ends.Equal(peer.EndTime) })
	if this < 0 {
		s.tickets = append(s.tickets, ticket{user: peer.User, begun: now, ends: peer.EndTime})
		s.tickets = s.tickets[max(0, len(s.tickets)-shownTickets):]
		this = len(s.tickets) - 1
	}
	s.tickets[this].requests++
	s.rate.pass(now.Unix())
	s.rate.counts[shownSeconds-1]++
	graph, most := s.rate.graph()
	counts := s.kdc.Counts()
	v := view{
		Peer: peer, SignIn: s.signIn, Requests: s.requests, ByTicket: s.tickets[this].requests, KDCUp: !s.stopped, Graph: graph, Most: most,
		Logins: many(counts.ASRep, "login"), Tickets: many(counts.TGSRep, "service ticket"),
		Ends: peer.EndTime.Local().Format("15:04:05 on 2 January"), Left: left(peer.EndTime.Sub(now)),
	}
	for _, t := range slices.Backward(s.tickets) {
		v.Lives = append(v.Lives, t.life(now))
	}
	return v
}

func (t ticket) life(now time.Time) life {
	lived := 100 * now.Sub(t.begun) / max(1, t.ends.Sub(t.begun))
	return life{
		User: t.user, Since: t.begun.Local().Format(time.TimeOnly), Ends: t.ends.Local().Format(time.TimeOnly),
		Requests: many(t.requests, "request"), Lived: int(min(100, lived)),
	}
}

// burstSize is how many requests a burst sends.
const burstSize = 100

// request sends a request without a ticket through Caddy, and returns the answer's status.
func (s *showcase) request(ctx context.Context) (status string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.caddy+"/json", nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.Status, err
}

// turn stops or starts the KDC.
func (s *showcase) turn(to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case to == "stop":
		s.kdc.Stop()
		s.stopped = true
	case to == "start" && s.stopped:
		if err := s.kdc.Start(); err != nil {
			return err
		}
		s.stopped = false
	}
	return nil
}

func writePage(w http.ResponseWriter, v view) {
	var page bytes.Buffer
	if err := pageTemplate.Execute(&page, v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", policy)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = page.WriteTo(w)
}

func many(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// left formats a duration for people.
func left(d time.Duration) string {
	d = max(d, 0)
	hours, minutes := int(d/time.Hour), int(d%time.Hour/time.Minute)
	switch {
	case hours > 0:
		return fmt.Sprintf("%d h %d min", hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%d min", minutes)
	default:
		return fmt.Sprintf("%d s", int(d/time.Second))
	}
}

// sameOrigin refuses cross-origin requests.
func (s *showcase) sameOrigin() http.Handler { return http.NewCrossOriginProtection().Handler(s) }
