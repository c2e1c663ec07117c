package adminapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// page returns the page, and fails if it is not one, or may do more than show itself.
func (l *lab) page(query string) string {
	l.t.Helper()
	w, err := l.request(http.MethodGet, "/kerberos/"+query)
	if err != nil {
		l.t.Fatal(err)
	}
	h := w.Header()
	if w.Code != http.StatusOK || h.Get("Content-Type") != "text/html; charset=utf-8" || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" ||
		!strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'; style-src 'self' 'unsafe-inline'") {
		l.t.Errorf("%d, %v", w.Code, h)
	}
	if text := strings.ToLower(w.Body.String()); strings.Contains(text, "<script") || strings.Contains(text, "src=") {
		l.t.Error("the page loads something")
	}
	return w.Body.String()
}

func wantTexts(t *testing.T, page string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(page, text) {
			t.Errorf("no %q in the page:\n%s", text, page)
		}
	}
}

func TestPage_Ready(t *testing.T) {
	l := newLab(t)
	wantTexts(t, l.page(""), "1 identity, all ready", "not used yet")
	if err := l.grant(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	page := l.page("")
	wantTexts(t, page, "again", "again, intranet", "svc-proxy@CORP.EXAMPLE", service+"@CORP.EXAMPLE", "alice", l.keytab, "version 1: aes256-cts-hmac-sha1-96",
		"answers", l.kdc.Addr(), "hours left", `http-equiv="refresh"`)
	if paused := l.page("?refresh=off"); strings.Contains(paused, "http-equiv") {
		t.Error("it loads itself again though it was told not to")
	}
}

func TestPage_KDCDownAndAccountLocked(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("LEFT OUT: datagrams that are refused (not on this system)")
	}
	l := newLab(t)
	l.account.Set(kdctest.With(kdctest.Locked))
	if err := l.grant(t.Context(), ""); err == nil {
		t.Fatal("a locked account logged in")
	}
	page := l.page("")
	wantTexts(t, page, "1 of 1 identity not ready", "refused", "KDC_ERR_CLIENT_REVOKED", "What to do:", "Unlock-ADAccount", "The next login is at")
	if strings.Contains(page, "What failed last") {
		t.Error("the same failure is shown twice")
	}
	get[FlushView](l, http.MethodPost, "/kerberos/flush")
	l.kdc.Stop()
	if err := l.grant(t.Context(), ""); err == nil {
		t.Fatal("logged in without a KDC")
	}
	wantTexts(t, l.page(""), "not ready", "does not answer", "1 not ready –")
}

// A service that does not exist is a failure, which leaves the identity ready.
func TestPage_Failures(t *testing.T) {
	l := newLab(t)
	if err := l.grantFor(t.Context(), "HTTP/<b>typo.corp.example", ""); err == nil {
		t.Fatal("the KDC knows it")
	}
	wantTexts(t, l.page(""), "all ready", "What failed last", "Ticket for HTTP/&lt;b&gt;typo.corp.example", "KDC_ERR_S_PRINCIPAL_UNKNOWN", "setspn")
}

// What comes from the network is cut, and shows neither markup nor what cannot be seen.
func TestPage_NetworkTexts(t *testing.T) {
	for text, want := range map[string]string{
		"plain":                  "plain",
		"größe":                  "größe",
		"a\x00\x1b[2J\n":         `a\x00\x1b[2J\n`,
		"\u202egnp.exe":          `\u202egnp.exe`,
		"bad\xffbyte":            "bad\ufffdbyte",
		strings.Repeat("x", 200): strings.Repeat("x", 200),
		strings.Repeat("ö", 201): strings.Repeat("ö", 200) + "…",
	} {
		if got := showText(text, maxText); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
	now := time.Now()
	v := IdentityView{
		Name: "<i>name", Problem: &ProblemView{"<script>alert(1)</script>" + strings.Repeat("y", 300), `"><img src=x>`},
		KDCs: []KDCView{{KDC: "dc1", State: StateDead, LastError: "\u202e<b>late", ErrorTime: &now}}, ClockOffsets: map[string]float64{"<u>R": -600},
		Failures: []FailureView{{Time: now, SPN: "HTTP/<s>", ProblemView: ProblemView{Reason: "<p>"}}},
	}
	var page strings.Builder
	data := pageData{Identities: []identityCard{newCard(v, []TicketView{{Service: "<h1>", User: "<h2>", TicketTimes: TicketTimes{StartTime: now, EndTime: now.Add(time.Hour)}}}, now)}}
	if err := pageTemplate.Execute(&page, data); err != nil {
		t.Fatal(err)
	}
	for _, markup := range []string{"<i>", "<script", "<img", "<b>", "<u>", "<s>", "\u202e", strings.Repeat("y", 200)} {
		if strings.Contains(page.String(), markup) {
			t.Errorf("%q is in the page:\n%s", markup, page.String())
		}
	}
	wantTexts(t, page.String(), "&lt;i&gt;name", `\u202e&lt;b&gt;late`, "10m0s behind ours")
}

func TestPage_ManyTickets(t *testing.T) {
	now := time.Now()
	var tickets []TicketView
	for i := range 50 {
		tickets = append(tickets, TicketView{Service: fmt.Sprint("HTTP/", i), TicketTimes: TicketTimes{StartTime: now, EndTime: now.Add(time.Duration(50-i) * time.Hour)}})
	}
	card := newCard(IdentityView{}, tickets, now)
	if len(card.Soonest) != maxTicketRows || card.Others != 50-maxTicketRows || card.Soonest[0].Service != "HTTP/49" {
		t.Errorf("%d rows, %d others, first %+v", len(card.Soonest), card.Others, card.Soonest[0])
	}
}

// The page is at exactly its path.
func TestPage_Path(t *testing.T) {
	mux := http.NewServeMux()
	for _, r := range (Admin{}).Routes() {
		mux.Handle(r.Pattern, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	}
	for path, want := range map[string]int{"/kerberos/": http.StatusTeapot, "/kerberos/tickets": http.StatusTeapot, "/kerberos/x": http.StatusNotFound, "/kerberos/tickets/x": http.StatusNotFound} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}
