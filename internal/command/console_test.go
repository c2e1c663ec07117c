package command

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/caddy-negotiate/caddy-negotiate/internal/adminapi"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func TestTable_Terminal(t *testing.T) {
	heads := []string{"SERVICE", "USER", "KEY"}
	rows := [][]string{
		{"HTTP/a-service-with-a-long-name.department.corp.example", "a-user-with-a-long-name@CORP.EXAMPLE", "aes256-sha1-96"},
		{"!HTTP/web", "-", "rc4-hmac"},
	}
	for width, longest := range map[int]int{0: 109, 80: 80, 40: 40} {
		var out bytes.Buffer
		c := &console{out: &out, width: width}
		if err := c.writeTable(heads, rows); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(out.String(), "\n")
		if got := utf8.RuneCountInString(lines[1]); got != longest {
			t.Errorf("width %d: a line of %d\n%s", width, got, &out)
		}
		if i := strings.Index(lines[2], "-"); lines[0][i:i+4] != "USER" {
			t.Errorf("width %d: columns are not aligned\n%s", width, &out)
		}
	}
}

func TestShorten(t *testing.T) {
	for _, tc := range []struct {
		text  string
		width int
		want  string
	}{
		{"short", 5, "short"}, {"a-long-name", 7, "a-l…ame"}, {"a-long-name", 6, "a-…ame"}, {"größe", 3, "g…e"}, {"abc", 2, "ab"}, {"abc", 0, ""}, {"abc", -1, ""},
	} {
		if got := shorten(tc.text, tc.width); got != tc.want {
			t.Errorf("shorten(%q, %d) = %q, want %q", tc.text, tc.width, got, tc.want)
		}
	}
}

func TestReport_Colours(t *testing.T) {
	var out bytes.Buffer
	r := &report{console: &console{out: &out, colours: true}}
	r.subject = "x"
	r.fail(stepLogin, "text", "remedy")
	if err := r.end(); err != errReported {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{"\x1b[31;1mFAIL\x1b[0m", "\x1b[31;1mFAILED\x1b[0m: 1 error\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, &out)
		}
	}
	cmd := new(cobra.Command)
	cmd.SetOut(&out)
	if c := consoleOf(cmd); c.colours || c.notes != nil || c.width != 0 {
		t.Errorf("a buffer is not a terminal: %+v", c)
	}
}

func TestReport_Summary(t *testing.T) {
	r := &report{console: new(console)}
	for want, counts := range map[string][2]int{
		"OK": {0, 0}, "OK: 1 warning": {0, 1}, "FAILED: 1 error": {1, 0}, "FAILED: 2 errors, 3 warnings": {2, 3},
	} {
		if got := r.summary(counts[0], counts[1]); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// On a terminal of 80 columns the tickets of a usual site are whole: who wants to know which service has
// which ticket reads it there.
func TestWriteTickets_EightyColumns(t *testing.T) {
	all := []adminapi.TicketView{
		{Identity: "svc-proxy@CORP.EXAMPLE", Service: "HTTP/intranet-test.berlin.corp.example@CORP.EXAMPLE", User: "alice.smith@CORP.EXAMPLE", SessionEType: "aes256-cts-hmac-sha1-96", TicketTimes: adminapi.TicketTimes{EndTime: time.Now().Add(9 * time.Hour)}, Uses: 1204, Bytes: 2048},
		{Identity: "svc-proxy@CORP.EXAMPLE", Service: "krbtgt/CORP.EXAMPLE@CORP.EXAMPLE", SessionEType: "aes256-cts-hmac-sha1-96", TicketTimes: adminapi.TicketTimes{EndTime: time.Now().Add(9 * time.Hour)}},
	}
	var out bytes.Buffer
	if err := writeTickets(&console{out: &out, width: 80}, all); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
	for _, whole := range []string{"HTTP/intranet-test.berlin.corp.example  alice.smith ", "krbtgt/CORP.EXAMPLE ", "1,204", "svc-proxy@CORP.EXAMPLE: 2 tickets"} {
		if !strings.Contains(out.String(), whole) {
			t.Errorf("no %q in\n%s", whole, &out)
		}
	}
	t.Logf("\n%s", &out)
}

// An identity whose tickets are Windows' logs in never: what shows a failure is the last request.
func TestIdentities_PlatformWithoutTickets(t *testing.T) {
	v := adminapi.IdentityView{Name: "HOST", Kind: negotiate.KindPlatform, Ready: true}
	for _, tc := range []struct {
		state   string
		tickets int
		failed  bool
	}{{"Windows", 0, false}, {"failed", 0, true}, {"Windows", 1, true}} {
		v.Tickets, v.Failures = tc.tickets, nil
		if tc.failed {
			v.Failures = []adminapi.FailureView{{Time: time.Now(), SPN: "HTTP/web", ProblemView: adminapi.ProblemView{Reason: "the reason", Remedy: "the remedy"}}}
		}
		notes := strings.Join(notesOf(v), "\n")
		if got := stateText(v); got != tc.state || (tc.state == "failed") != strings.Contains(notes, "HTTP/web") {
			t.Errorf("%+v: %s\n%s", tc, got, notes)
		}
	}
}
