package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
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
	b.Shoot("demo")

	b.Click("#again")
	b.Want("#requests", "2")
	var focus string
	b.Script("return document.activeElement.id", &focus)
	if focus != "again" {
		t.Errorf("after a click the focus is on %q", focus)
	}

	b.Click("#switch")
	b.Want("#kdc", "stopped")
	b.Want("#switch", "Start the KDC")
	b.Script("return document.activeElement.id", &focus)
	if focus != "switch" {
		t.Errorf("after a click the focus is on %q", focus)
	}
	b.Click("#again")
	b.Want("#requests", "5")
	b.Click("#again")
	b.Want("#requests", "6") // the click on the switch was one, and the page after it
	b.Want("#exchanges", "1 login, 1 service ticket")
	b.Want("#principal", "svc-proxy@DEMO.EXAMPLE")
	b.Shoot("demo-stopped")

	b.Click("#switch")
	b.Want("#kdc", "running")

	// The picture is accessible, and the page loads nothing from other hosts.
	if role, name := b.Get(b.Element("svg")+"/computedrole"), b.Get(b.Element("svg")+"/computedlabel"); role != "image" && role != "img" || !strings.Contains(name, "Caddy") {
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
	var wide bool
	b.Call(http.MethodPost, "/window/rect", map[string]int{"width": 380, "height": 800}, nil)
	b.Script("return document.documentElement.scrollWidth > document.documentElement.clientWidth", &wide)
	if wide {
		t.Error("the page is wider than a telephone")
	}
	b.Shoot("demo-narrow")
}
