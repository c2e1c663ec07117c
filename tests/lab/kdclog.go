package lab

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Exchange is a line of MIT's KDC log about one request. As an argument of
// [MIT.Count], an empty field matches any value.
type Exchange struct {
	Kind   string // AS_REQ or TGS_REQ
	Status string // ISSUE, NEEDED_PREAUTH, PREAUTH_FAILED, CLIENT_NOT_FOUND, LOOKING_UP_SERVER, ...
	// Client and Service have their realms. One that the KDC does not know is as
	// requested, or "<unknown client>", "<unknown server>".
	Client, Service string
	// Rep, Tkt and Ses are the types of the reply's key, of the ticket and of
	// its session key, as MIT writes them: aes256-cts-hmac-sha1-96(18).
	Rep, Tkt, Ses string
	// Error is the KDC's reason, empty for ISSUE.
	Error string
}

// AS_REQ (2 etypes {aes256-cts-hmac-sha1-96(18), ...}) 127.0.0.1: ISSUE: authtime 1795161843,
// etypes {rep=..., tkt=..., ses=...}, alice@LAB.TEST for krbtgt/LAB.TEST@LAB.TEST
var (
	exchangeLine = regexp.MustCompile(`(AS_REQ|TGS_REQ) \(\d+ etypes \{[^}]*\}\) \S+: (\w+): (?:authtime \d+, )?(?:etypes \{([^}]*)\},? )?` +
		`(<unknown client>|[^ ,]+) for (<unknown server>|[^ ,]+)(?:, (.*))?$`)
	exchangeType = regexp.MustCompile(`(rep|tkt|ses)=([^,}]+)`)
)

// LogPath returns the path of the KDC's log.
func (m *MIT) LogPath() string { return m.path("krb5kdc.log") }

// Log returns every request that the KDC has answered. The KDC writes a line before it
// sends the reply, so a client with a reply finds its line here.
func (m *MIT) Log(t testing.TB) []Exchange {
	t.Helper()
	text, err := os.ReadFile(m.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	var log []Exchange
	for line := range strings.Lines(string(text)) {
		if x, ok := parseExchange(strings.TrimSuffix(line, "\n")); ok {
			log = append(log, x)
		}
	}
	return log
}

// Count returns the number of requests that match the non-empty fields of x:
// Exchange{Kind: "TGS_REQ", Status: "ISSUE"} counts the service tickets issued.
func (m *MIT) Count(t testing.TB, x Exchange) int {
	t.Helper()
	n := 0
	for _, have := range m.Log(t) {
		if have.matches(x) {
			n++
		}
	}
	return n
}

// Logins returns the number of TGTs issued to a client by AS exchanges.
func (m *MIT) Logins(t testing.TB, client string) int {
	t.Helper()
	return m.Count(t, Exchange{Kind: "AS_REQ", Status: "ISSUE", Client: client})
}

// Tickets returns the number of tickets issued for a service, named with its realm,
// by TGS exchanges.
func (m *MIT) Tickets(t testing.TB, service string) int {
	t.Helper()
	return m.Count(t, Exchange{Kind: "TGS_REQ", Status: "ISSUE", Service: service})
}

func (x Exchange) matches(want Exchange) bool {
	for _, f := range [][2]string{
		{x.Kind, want.Kind},
		{x.Status, want.Status},
		{x.Client, want.Client},
		{x.Service, want.Service},
		{x.Rep, want.Rep},
		{x.Tkt, want.Tkt},
		{x.Ses, want.Ses},
		{x.Error, want.Error},
	} {
		if f[1] != "" && f[0] != f[1] {
			return false
		}
	}
	return true
}

func parseExchange(line string) (Exchange, bool) {
	m := exchangeLine.FindStringSubmatch(line)
	if m == nil {
		return Exchange{}, false
	}
	x := Exchange{Kind: m[1], Status: m[2], Client: m[4], Service: m[5], Error: m[6]}
	for _, e := range exchangeType.FindAllStringSubmatch(m[3], -1) {
		switch e[1] {
		case "rep":
			x.Rep = e[2]
		case "tkt":
			x.Tkt = e[2]
		case "ses":
			x.Ses = e[2]
		}
	}
	return x, true
}
