package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// startDemo runs the demo like the command, and returns Caddy's address and what the demo shows.
func startDemo(t *testing.T, signIn bool) (listen, text string) {
	t.Helper()
	listen = caddytest.FreeAddress(t)
	ctx, stop := context.WithCancel(context.Background())
	shown, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- run(ctx, options{listen: listen, signIn: signIn}, func(text string) { shown <- text })
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case text = <-shown:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return listen, text
}

// send sends a request with headers as alternating names and values.
func send(t *testing.T, method, url, body string, headers ...string) caddytest.Answer {
	t.Helper()
	return caddytest.Do(t, caddytest.Request(t, method, url, func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader(body))
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
	}))
}

func TestDemo_Once(t *testing.T) {
	for _, signIn := range []bool{false, true} {
		err := run(t.Context(), options{listen: caddytest.FreeAddress(t), signIn: signIn, once: true}, func(string) {})
		if err != nil {
			t.Errorf("-sign-in=%t: %v", signIn, err)
		}
	}
}

func TestDemo_TakenAddress(t *testing.T) {
	taken := caddytest.Serve(t, &http.Server{Handler: http.NotFoundHandler()})
	err := run(t.Context(), options{listen: taken, once: true}, func(string) {})
	if err == nil || !strings.Contains(err.Error(), taken) || !strings.Contains(err.Error(), "-listen 127.0.0.1:") {
		t.Errorf("a taken address: %v", err)
	}
}

func TestDemo(t *testing.T) {
	listen, text := startDemo(t, false)
	url := "http://" + listen
	if !strings.Contains(text, "curl -i "+url+" ") {
		t.Errorf("the demo shows\n%s", text)
	}
	const seen = "svc-proxy@DEMO.EXAMPLE"
	if a := send(t, http.MethodGet, url, "", "Accept", "*/*"); a.Body != seen+"\n" {
		t.Errorf("curl gets %v", a)
	}
	if a := send(t, http.MethodGet, url+"/json", ""); !strings.Contains(a.Body, `"principal":"`+seen+`"`) {
		t.Errorf("/json is %v", a)
	}
	browser := send(t, http.MethodGet, url, "", "Accept", "text/html,*/*")
	page := browser.Body
	if !strings.HasPrefix(page, "<!DOCTYPE html>") || !strings.Contains(page, seen) || len(page) > 16<<10 {
		t.Errorf("browsers get %d bytes: %s", len(page), page)
	}
	if csp := browser.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; img-src data:; style-src 'sha256-") {
		t.Errorf("the page may load %q", csp)
	}
	if strings.Contains(page, "://") || strings.Contains(page, "<script") {
		t.Error("the page has a foreign resource or a script")
	}
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	if a := send(t, http.MethodPost, url+"/kdc", "kdc=stop", append(form, "Sec-Fetch-Site", "cross-site")...); a.Status != http.StatusForbidden {
		t.Errorf("another site's click gets %v", a)
	}
	for _, to := range []string{"stop", "stop", "start", "start"} {
		if a := send(t, http.MethodPost, url+"/kdc", "kdc="+to, form...); a.Status != http.StatusSeeOther {
			t.Errorf("%s gets %v", to, a)
		}
		if a := send(t, http.MethodGet, url, ""); a.Body != seen+"\n" {
			t.Errorf("after %s: %v", to, a)
		}
	}
}

func TestDemo_Browser(t *testing.T) {
	b := lab.StartBrowser(t, nil)
	listen, _ := startDemo(t, false)
	url := "http://" + listen
	b.Open(url)
	b.Want("#principal", "svc-proxy@DEMO.EXAMPLE")
	b.Want("#requests", "1")
	b.Want("#exchanges", "1 login, 1 service ticket")
	b.Want("#kdc", "running")
	b.Shoot("demo-first")

	b.Click("#again")
	b.Want("#requests", "2")
	b.WantFocus("again")

	b.Click("#switch")
	b.Want("#kdc", "stopped")
	b.Want("#switch", "Start the KDC")
	b.WantFocus("switch")
	b.Click("#again")
	b.Want("#requests", "5")
	b.Click("#again")
	b.Want("#requests", "6") // the click on the switch was one, and the page after it
	b.Want("#exchanges", "1 login, 1 service ticket")
	b.Want("#principal", "svc-proxy@DEMO.EXAMPLE")
	b.Shoot("demo-stopped")

	b.Click("#switch")
	b.Want("#kdc", "running")

	// A hundred requests need no KDC, and show in the graph.
	b.Click("#burst")
	b.Want("#exchanges", "1 login, 1 service ticket")
	if requests, err := strconv.Atoi(b.Get(b.Element("#requests") + "/text")); err != nil || requests < 100 {
		t.Errorf("%d requests after a burst, %v", requests, err)
	}
	if most := b.Get(b.Element("#most") + "/text"); most == "At most 1 in a second." {
		t.Errorf("the graph says %q", most)
	}
	b.Click("#switch")
	b.Want("#kdc", "stopped")
	b.Click("#burst")
	b.Want("#kdc", "stopped")
	b.Resize(900, 950)
	b.Shoot("demo") // for the README
	b.Click("#switch")
	b.Want("#kdc", "running")

	// The picture is accessible, and the page loads nothing from other hosts.
	if role, name := b.Get(b.Element("svg:not(.rate)")+"/computedrole"), b.Get(b.Element("svg:not(.rate)")+"/computedlabel"); role != "image" && role != "img" || !strings.Contains(name, "Caddy") {
		t.Errorf("the picture is a %q called %q", role, name)
	}
	if title := b.Get("/title"); !strings.Contains(title, "svc-proxy") {
		t.Errorf("the title is %q", title)
	}
	var foreign []string
	b.Script("return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith(location.origin))", &foreign)
	if len(foreign) > 0 {
		t.Errorf("the page loaded %v", foreign)
	}
	b.Resize(380, 800)
	if b.Overflows() {
		t.Error("the page is wider than a telephone")
	}
	b.Shoot("demo-narrow")

	// By keyboard: Tab leads from button to button, and Enter presses one.
	b.Open(url)
	for _, id := range []string{"again", "burst", "switch"} {
		b.Press("\ue004") // Tab
		b.WantFocus(id)
	}
	b.Press("\ue007") // Enter, on the switch
	b.Want("#kdc", "stopped")
}

// command is one that the demo shows for a user: its variables, and what follows the program.
type command struct{ env, args []string }

// commands are those of a program, for alice and for bob.
func commands(t *testing.T, text, program string) (found [2]command) {
	t.Helper()
	n := 0
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " "+program+" ")
		if env := strings.Fields(before); ok && len(env) > 0 && n < len(found) {
			found[n] = command{env, strings.Fields(after)}
			n++
		}
	}
	if n != len(found) {
		t.Fatalf("%d commands of %s in\n%s", n, program, text)
	}
	return found
}

var principals = [2]string{"alice@DEMO.EXAMPLE", "bob@DEMO.EXAMPLE"}

func TestDemo_SignInCurl(t *testing.T) {
	lab.Require(t, lab.Curl)
	listen, text := startDemo(t, true)
	for i, c := range commands(t, text, "curl") {
		curl := exec.CommandContext(t.Context(), "curl", append([]string{"-sS", "--max-time", "20"}, c.args...)...)
		curl.Env = append(os.Environ(), c.env...)
		if out, err := curl.CombinedOutput(); err != nil || string(out) != principals[i]+"\n" {
			t.Errorf("%s gets %q, %v", principals[i], out, err)
		}
	}
	if a := send(t, http.MethodGet, "http://"+listen, ""); a.Status != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") != "Negotiate" {
		t.Errorf("without a ticket: %v", a)
	}
}

func TestDemo_SignInBrowser(t *testing.T) {
	lab.Require(t, lab.Chromium)
	_, text := startDemo(t, true)
	chromium := commands(t, text, "chromium")
	var browsers [2]*lab.Browser
	url := ""
	for i, c := range chromium {
		last := len(c.args) - 1
		url = c.args[last]
		browsers[i] = lab.StartBrowser(t, c.args[:last], c.env...)
		browsers[i].Open(url)
		browsers[i].Want("#principal", principals[i])
		browsers[i].Want("#requests", "1")
	}
	for i, b := range browsers { // by the cookie
		b.Click("#again")
		b.Want("#requests", "2")
		b.Want("#principal", principals[i])
		b.Want("#without", "401 Unauthorized")
		b.Shoot("demo-sign-in-" + strconv.Itoa(i))
	}
	browsers[0].Click("#switch")
	browsers[0].Want("#kdc", "stopped")
	browsers[1].Click("#again")
	browsers[1].Want("#kdc", "stopped")
	browsers[1].Want("#principal", principals[1])

	without := lab.StartBrowser(t, []string{"--auth-server-allowlist=localhost"}, "KRB5CCNAME=FILE:"+t.TempDir()+"/none")
	without.Open(url)
	without.Open(url) // the first page of a new profile fails in any case
	without.Want(".error-code", "HTTP ERROR 401")
}

// Of the tickets that requests came with the page shows the latest ones, and how much of their lives is over.
func TestPage_TicketsLives(t *testing.T) {
	realm := kdctest.NewRealm(realmName)
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	s := &showcase{kdc: kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{realm}}), now: func() time.Time { return now }}
	for i := range shownTickets + 1 {
		peer := &kdctest.Peer{EndTime: now.Add(time.Hour)}
		for range i + 1 {
			s.count(peer)
		}
		now = now.Add(15 * time.Minute)
	}
	v := s.count(&kdctest.Peer{EndTime: now.Add(45 * time.Minute)})
	if len(v.Lives) != shownTickets || v.Lives[0].Lived != 25 || v.Lives[0].Requests != "5 requests" || v.Lives[2].Lived != 75 {
		t.Errorf("lives: %+v", v.Lives)
	}
	now = now.Add(24 * time.Hour)
	if v = s.count(&kdctest.Peer{EndTime: now.Add(time.Hour)}); v.Lives[0].Lived != 0 || v.Lives[1].Lived != 100 {
		t.Errorf("a day later: %+v", v.Lives)
	}
}

// Tickets of two users may end in the same second.
func TestPage_TicketOfEachUser(t *testing.T) {
	s := &showcase{kdc: kdctest.NewKDC(kdctest.Config{}), now: time.Now}
	var v view
	for _, name := range []string{"alice", "bob", "alice"} {
		v = s.count(&kdctest.Peer{User: name, EndTime: time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)})
	}
	if len(v.Lives) != 2 || v.ByTicket != 2 || v.Lives[0].User != "bob" || v.Lives[0].Requests != "1 request" {
		t.Errorf("%d requests with alice's ticket, lives %+v", v.ByTicket, v.Lives)
	}
}

func TestRate(t *testing.T) {
	var r rate
	count := func(second int64, n int) {
		r.pass(second)
		r.counts[shownSeconds-1] += n
	}
	count(1_000_000, 1)
	count(1_000_001, 4)
	count(1_000_003, 2)
	if path, most := r.graph(); path != "M565 100v-25M575 100v-100M595 100v-50" || most != 4 {
		t.Errorf("%s, %d", path, most)
	}
	count(1_000_061, 1)
	if path, most := r.graph(); path != "M15 100v-100M595 100v-50" || most != 2 {
		t.Errorf("a minute later: %s, %d", path, most)
	}
	count(2_000_000, 1)
	if path, _ := r.graph(); path != "M595 100v-100" {
		t.Errorf("days later: %s", path)
	}
}
