package httpauth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestReadChallenges(t *testing.T) {
	token := []byte("\xa1\x14\x30\x12\xa0\x03\x0a\x01")
	b64 := base64.StdEncoding.EncodeToString(token) // ends with =
	if !strings.HasSuffix(b64, "=") {
		t.Fatal("the case with padding is not tested")
	}
	for _, tc := range []struct {
		name      string
		values    []string
		negotiate bool
		token     bool
		schemes   string
	}{
		{"none", nil, false, false, ""},
		{"empty", []string{""}, false, false, ""},
		{"bare", []string{"Negotiate"}, true, false, "negotiate"},
		{"with token", []string{"Negotiate " + b64}, true, true, "negotiate"},
		{"unpadded", []string{"Negotiate " + strings.TrimRight(b64, "=")}, true, true, "negotiate"},
		{"any case", []string{"nEGOTIATE  " + b64 + " "}, true, true, "negotiate"},
		{"two fields, NTLM first", []string{"NTLM", "Negotiate"}, true, false, "ntlm negotiate"},
		{"comma list, NTLM first", []string{"NTLM, Negotiate " + b64}, true, true, "ntlm negotiate"},
		{"token then NTLM", []string{"Negotiate " + b64 + ",NTLM"}, true, true, "negotiate ntlm"},
		{"empty elements", []string{",, Negotiate ,, Basic realm=x ,"}, true, false, "negotiate basic"},
		{"after parameters", []string{`Basic realm="a, b", charset="UTF-8", Negotiate ` + b64}, true, true, "basic negotiate"},
		{"after spaced parameters", []string{"Digest realm = x , qop =auth, Negotiate"}, true, false, "digest negotiate"},
		{"in a quoted string", []string{`Basic realm="x, Negotiate ` + b64 + `, y"`}, false, false, "basic"},
		{"behind an escaped quote", []string{`Basic realm="x\", Negotiate ` + b64 + `"`}, false, false, "basic"},
		{"in a string never closed", []string{`Basic realm="x, Negotiate ` + b64}, false, false, "basic"},
		{"as a parameter", []string{"Basic negotiate=" + b64, "Foo a=b, negotiate=c"}, false, false, "basic foo"},
		{"longer scheme", []string{"Negotiate2 " + b64, "XNegotiate"}, false, false, "negotiate2 xnegotiate"},
		{"glued", []string{"Negotiate:" + b64, "Negotiate\"x\""}, false, false, ""},
		{"first token counts", []string{"Negotiate", "Negotiate " + b64, "Negotiate AAAA"}, true, true, "negotiate negotiate negotiate"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := ReadChallenges(http.Header{"Www-Authenticate": tc.values})
			if c.Negotiate != tc.negotiate || c.Err != nil || tc.token != bytes.Equal(c.Token, token) || (len(c.Token) > 0) != tc.token {
				t.Errorf("%+v", c)
			}
			if got := strings.ToLower(strings.Join(c.Schemes, " ")); got != tc.schemes {
				t.Errorf("schemes %q, want %q", got, tc.schemes)
			}
		})
	}
}

func TestReadChallenges_Malformed(t *testing.T) {
	for _, tc := range []struct {
		value string
		want  error
	}{
		{"Negotiate !!!", ErrTokenMalformed},
		{"Negotiate YII YII", ErrTokenMalformed},
		{"Negotiate realm=x", ErrTokenMalformed},
		{"Negotiate AAAAB", ErrTokenMalformed}, // no length of base64
		{"Negotiate " + strings.Repeat("A", maxTokenBytes+4), ErrTokenTooLong},
	} {
		c := ReadChallenges(http.Header{"Www-Authenticate": {tc.value}})
		if !c.Negotiate || !errors.Is(c.Err, tc.want) || c.Token != nil {
			t.Errorf("%.40q: %v, %v", tc.value, c.Err, c.Token)
		}
	}
	c := ReadChallenges(http.Header{"Www-Authenticate": {"Negotiate !!!, Negotiate AAAA"}})
	if c.Err != nil || len(c.Token) != 3 {
		t.Errorf("a good token after a bad one: %+v", c)
	}
}

func TestReadChallenges_Bounds(t *testing.T) {
	many := ReadChallenges(http.Header{"Www-Authenticate": {strings.Repeat("Basic,", 100_000/6)}})
	if len(many.Schemes) != maxChallenges {
		t.Errorf("%d schemes read", len(many.Schemes))
	}
	big := ReadChallenges(http.Header{"Www-Authenticate": {strings.Repeat(" ", maxChallengeBytes), "Negotiate"}})
	if big.Negotiate {
		t.Error("read beyond the bound")
	}
}

func TestDropChallenges(t *testing.T) {
	h := http.Header{
		"Www-Authenticate":    {"Negotiate", "NTLM", `Basic realm="x"`},
		"Authentication-Info": {"x"},
		"Persistent-Auth":     {"true"},

		http.TrailerPrefix + "Www-Authenticate": {"Negotiate"},
		"Content-Type":                          {"text/html"},
		"Proxy-Authenticate":                    {"Basic"},
	}
	DropChallenges(h)
	var left []string
	for name := range h {
		left = append(left, name)
	}
	slices.Sort(left)
	if !slices.Equal(left, []string{"Content-Type", "Proxy-Authenticate"}) {
		t.Fatalf("left: %v", left)
	}
}

func FuzzReadChallenges(f *testing.F) {
	for _, s := range []string{
		"Negotiate", "NTLM, Negotiate oRQw", `Basic realm="a\"b, Negotiate x", Negotiate YII=`,
		"Digest a=b,c = \"d\" , Negotiate", "\"", ",,,", "Negotiate \x00", "a=,Negotiate",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := ReadChallenges(http.Header{"Www-Authenticate": {s}})
		if len(c.Schemes) > maxChallenges || len(c.Token) > maxTokenBytes {
			t.Fatal("beyond the bounds")
		}
		if c.Negotiate != slices.ContainsFunc(c.Schemes, func(s string) bool { return strings.EqualFold(s, "negotiate") }) || (len(c.Token) > 0 && !c.Negotiate) {
			t.Fatalf("%q: %+v", s, c)
		}
		if c.Negotiate && !strings.Contains(strings.ToLower(s), "negotiate") {
			t.Fatalf("%q: invented", s)
		}
		// Text in a quoted string is never a challenge.
		if !strings.ContainsAny(s, "\"\\") {
			q := ReadChallenges(http.Header{"Www-Authenticate": {`Basic realm="` + s + `"`}})
			if q.Negotiate || len(q.Schemes) != 1 {
				t.Fatalf("quoted %q: %+v", s, q)
			}
		}
	})
}
