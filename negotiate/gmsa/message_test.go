package gmsa

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// unhex is hexadecimal text, which may have spaces.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	return must.OK(hex.DecodeString(strings.ReplaceAll(s, " ", "")))(t)
}

func quote(s string) string { return hex.EncodeToString([]byte(s)) }

// What RFC 4511 says the requests are, worked out by hand.
func TestRequests(t *testing.T) {
	bind := appendMessage(nil, 1, func(dst []byte) []byte { return appendBindRequest(dst, []byte("token")) })
	search := appendMessage(nil, 2, func(dst []byte) []byte { return appendSearchRequest(dst, baseOf("CORP.EXAMPLE"), "svc-web$") })
	for want, got := range map[string][]byte{
		"301f 020101 601a 020103 0400 a313 040a" + quote("GSS-SPNEGO") + "0405" + quote("token"): bind,
		"3075 020102 6370 0412" + quote("DC=corp,DC=example") + "0a0102 0a0100 020102 02010a 010100" +
			"a31a 040e" + quote("sAMAccountName") + "0408" + quote("svc-web$") +
			"302f 0414" + quote("msDS-ManagedPassword") + "040b" + quote("objectClass") + "040a" + quote("pwdLastSet"): search,
	} {
		if want := unhex(t, want); !bytes.Equal(got, want) {
			t.Errorf("got %x, want %x", got, want)
		}
	}
}

// What a server answers.
const (
	boundReply = "300f 020101 610a 0a0100 0400 0400 8701 55"
	refusal    = "3018 020101 6113 0a0131 0400 040c 8009030800000000"
	foundEntry = "3035 020102 6430 0404 434e3d78 3028" +
		"3011 040b 6f626a656374436c617373 3102 0400" +
		"3013 0409 6d7344532d54657374 3106 0401 41 0401 42"
	doneReply = "300c 020102 6507 0a0100 0400 0400"
)

func TestParseResult(t *testing.T) {
	for name, x := range map[string]struct {
		encoding string
		op       uint8
		want     result
		err      string
	}{
		"bound":   {boundReply, opBindResponse, result{message: []byte{}, creds: []byte("U")}, ""},
		"done":    {doneReply, opSearchDone, result{message: []byte{}}, ""},
		"refused": {"3016 020101 6111 0a0131 0400 040a 38303039303330380000", opBindResponse, result{code: 49, message: []byte("80090308\x00\x00")}, `LDAP result 49 (invalidCredentials) "80090308"`},
		"referred elsewhere": {
			"3013 020102 650e 0a010a 0400 0400 a305 0403 6c643a", opSearchDone, result{code: 10, message: []byte{}}, `LDAP result 10 (referral) ""`,
		},
	} {
		for _, b := range [][]byte{unhex(t, x.encoding), vectors.LongLengths(unhex(t, x.encoding))} {
			m, err := parseMessage(b)
			if err != nil {
				t.Errorf("%s: %x: %v", name, b, err)
				continue
			}
			got, err := parseResult(m.raw, x.op)
			if diff := cmp.Diff(x.want, got, cmp.AllowUnexported(result{})); err != nil || diff != "" {
				t.Errorf("%s: %v %s", name, err, diff)
			}
			if err := got.err(); x.err == "" && err != nil || x.err != "" && (err == nil || err.Error() != x.err) {
				t.Errorf("%s: %v, want %s", name, err, x.err)
			}
			for n := range m.raw {
				if got, err := parseResult(m.raw[:n], x.op); err == nil {
					t.Errorf("%s: %d bytes are accepted: %+v", name, n, got)
				}
			}
			for n := range b {
				if got, err := parseMessage(b[:n]); err == nil {
					t.Errorf("%s: %d bytes of the message are accepted: %+v", name, n, got)
				}
			}
		}
	}
}

func TestParseEntry(t *testing.T) {
	b := unhex(t, foundEntry)
	for _, b := range [][]byte{b, vectors.LongLengths(b)} {
		m := must.OK(parseMessage(b))(t)
		e := must.OK(parseEntry(m.raw))(t)
		if got := e.values("msds-test"); len(got) != 2 || string(got[0]) != "A" || string(got[1]) != "B" {
			t.Errorf("%q", got)
		}
		if got := e.values("none"); got != nil {
			t.Errorf("%q", got)
		}
		for n := range m.raw {
			if got, err := parseEntry(m.raw[:n]); err == nil {
				t.Errorf("%d bytes are accepted: %+v", n, got)
			}
		}
	}
}

func TestResultError_IsShort(t *testing.T) {
	r := result{code: 1, message: bytes.Repeat([]byte("\xff"), 10_000)}
	if text := r.err().Error(); len(text) > 2*maxShown {
		t.Errorf("%d bytes", len(text))
	}
}

// FuzzReply reads what a server may send: frames, and of each what an operation makes of it.
func FuzzReply(f *testing.F) {
	for _, s := range []string{boundReply, refusal, foundEntry, doneReply, "300c 020100 7807 0a0134 0400 0400"} {
		f.Add(unhex(f, s))
		f.Add(vectors.LongLengths(unhex(f, s)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			frame, err := readFrame(r)
			if err != nil {
				return
			}
			if len(frame) > maxMessage+6 {
				t.Fatalf("%d bytes", len(frame))
			}
			m, err := parseMessage(frame)
			if err != nil {
				continue
			}
			for _, op := range []uint8{opBindResponse, opSearchDone} {
				if r, err := parseResult(m.raw, op); err == nil {
					_ = r.err()
				}
			}
			if e, err := parseEntry(m.raw); err == nil {
				_, _ = e.reading(testNow)
			}
		}
	})
}
