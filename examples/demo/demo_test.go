package main

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// startDemo runs the demo like the command and returns Caddy's URL.
func startDemo(t *testing.T) string {
	t.Helper()
	listen := caddytest.FreeAddress(t)
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- run(ctx, listen, false, func() { close(ready) }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return "http://" + listen
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
	if err := run(t.Context(), caddytest.FreeAddress(t), true, func() {}); err != nil {
		t.Fatal(err)
	}
}

func TestDemo_TakenAddress(t *testing.T) {
	taken := caddytest.Serve(t, &http.Server{Handler: http.NotFoundHandler()})
	if err := run(t.Context(), taken, true, func() {}); err == nil || !strings.Contains(err.Error(), taken) || !strings.Contains(err.Error(), "-listen 127.0.0.1:") {
		t.Errorf("a taken address: %v", err)
	}
}

func TestDemo(t *testing.T) {
	url := startDemo(t)
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
	url := startDemo(t)
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
