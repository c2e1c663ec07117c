package lab

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Access is a request that Apache has answered.
type Access struct {
	Status        int
	Method        string
	URI           string // path and query
	User          string // REMOTE_USER, or empty
	Before        int    // number of earlier requests on its connection
	RemotePort    int    // the client's, which identifies the connection
	LocalPort     int
	Authorization string // the header that arrived, or empty
}

// Accesses returns the access log. Apache writes a line after it has sent the
// response, so Accesses waits until the log has atLeast lines.
func (a *Apache) Accesses(t testing.TB, atLeast int) []Access {
	t.Helper()
	var lines []string
	err := poll(time.Minute, strconv.Itoa(atLeast)+" lines in the access log", func() (bool, error) {
		text, err := os.ReadFile(a.path("access.log"))
		if err != nil {
			return false, err
		}
		text = text[:bytes.LastIndexByte(text, '\n')+1] // whole lines only
		lines = lines[:0]
		for line := range strings.Lines(string(text)) {
			if !strings.Contains(line, " "+probePath+" ") {
				lines = append(lines, strings.TrimSuffix(line, "\n"))
			}
		}
		return len(lines) >= atLeast, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	log := make([]Access, len(lines))
	for i, line := range lines {
		f := strings.Split(line, "\t")
		if len(f) != 7 {
			t.Fatalf("access log: %q has %d fields", line, len(f))
		}
		method, uri, _ := strings.Cut(f[1], " ")
		uri, _, _ = strings.Cut(uri, " ")
		log[i] = Access{
			Status: number(t, f[0]), Method: method, URI: uri, User: dash(f[2]), Before: number(t, f[3]),
			RemotePort: number(t, f[4]), LocalPort: number(t, f[5]), Authorization: dash(f[6]),
		}
	}
	return log
}

func number(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("access log: %v", err)
	}
	return n
}

func dash(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

// ErrorLog returns Apache's error log, with mod_auth_gssapi's messages about each
// token. Apache writes it before it responds.
func (a *Apache) ErrorLog(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(a.path("error.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Replays returns the number of tokens that were refused as replays.
func (a *Apache) Replays(t testing.TB) int {
	t.Helper()
	return strings.Count(a.ErrorLog(t), "Request is a replay")
}

// ParseEcho parses the response of an /echo path: METHOD, URI, PROTOCOL,
// REMOTE_USER, AUTH_TYPE, GSS_NAME, KRB5CCNAME, CONTENT_LENGTH, BODY_SHA256,
// AUTHORIZATION_LENGTH, and each other header as HTTP_NAME.
func ParseEcho(body []byte) map[string]string {
	got := make(map[string]string)
	for line := range strings.Lines(string(body)) {
		if k, v, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "="); ok {
			got[k] = v
		}
	}
	return got
}
