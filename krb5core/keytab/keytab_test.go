package keytab

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/filetest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// entry makes an entry whose key has this byte throughout.
func entry(t *testing.T, name string, id enctype.ID, kvno uint32, written int64, fill byte) Entry {
	t.Helper()
	size := id.KeySize()
	if size == 0 {
		size = 8
	}
	key := must.OK(enctype.NewKey(id, []byte(strings.Repeat(string(rune(fill)), size))))(t)
	e := Entry{Principal: filetest.Principal(t, name), KVNO: kvno, Key: key}
	if written != 0 {
		e.Timestamp = time.Unix(written, 0).UTC()
	}
	return e
}

func versions(entries []Entry) string {
	var list []string
	for _, e := range entries {
		list = append(list, fmt.Sprintf("%d/%d", e.KVNO, int32(e.Key.EType())))
	}
	return strings.Join(list, " ")
}

func TestKeys_NewestFirst(t *testing.T) {
	const aes256, aes128 = enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96
	for name, tt := range map[string]struct {
		entries []Entry
		want    string
	}{
		"by version, then order of the file": {[]Entry{
			entry(t, "a@R", aes256, 1, 10, 'x'), entry(t, "a@R", aes128, 2, 20, 'x'), entry(t, "a@R", aes256, 2, 20, 'x'),
		}, "2/17 2/18 1/18"},
		"other names, realms and cases left out": {[]Entry{
			entry(t, "a@R", aes256, 1, 0, 'x'), entry(t, "a@r", aes256, 2, 0, 'x'), entry(t, "A@R", aes256, 3, 0, 'x'), entry(t, "a/b@R", aes256, 4, 0, 'x'),
		}, "1/18"},
		"versions that wrapped": {[]Entry{
			entry(t, "a@R", aes256, 254, 10, 'x'), entry(t, "a@R", aes256, 255, 20, 'x'), entry(t, "a@R", aes256, 1, 30, 'x'),
		}, "1/18 255/18 254/18"},
		"a small version written before is older": {[]Entry{
			entry(t, "a@R", aes256, 1, 10, 'x'), entry(t, "a@R", aes256, 255, 20, 'x'),
		}, "255/18 1/18"},
		"middling versions do not wrap": {[]Entry{
			entry(t, "a@R", aes256, 200, 10, 'x'), entry(t, "a@R", aes256, 3, 20, 'x'),
		}, "200/18 3/18"},
	} {
		k := &Keytab{Entries: tt.entries}
		if got := versions(k.Keys(filetest.Principal(t, "a@R"))); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestKey(t *testing.T) {
	const aes256, aes128 = enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96
	k := &Keytab{Entries: []Entry{
		entry(t, "a@R", aes256, 1, 10, 'a'),
		entry(t, "a@R", aes256, 2, 20, 'b'),
		entry(t, "a@R", aes128, 1, 20, 'c'),
		entry(t, "a@R", aes256, 300, 30, 'd'),
	}}
	for _, tt := range []struct {
		etype enctype.ID
		kvno  uint32
		want  byte // 0: none
	}{
		{aes256, 0, 'd'},
		{aes256, 1, 'a'},
		{aes256, 2, 'b'},
		{aes256, 3, 0},
		{aes128, 0, 'c'},
		{aes128, 2, 0},
		{aes256, 300, 'd'},
		{aes256, 258, 'b'},
		{aes256, 259, 0},
		{enctype.RC4_HMAC, 0, 0},
	} {
		key, ok := k.Key(filetest.Principal(t, "a@R"), tt.etype, tt.kvno)
		var got byte
		if ok {
			got = key.Bytes()[0]
		}
		if got != tt.want {
			t.Errorf("%s kvno %d: key %q, want %q", tt.etype, tt.kvno, got, tt.want)
		}
	}
	if _, ok := k.Key(filetest.Principal(t, "b@R"), aes256, 0); ok {
		t.Error("a key of a principal that has none")
	}
}

func TestPrincipals(t *testing.T) {
	k := must.OK(Parse(filetest.File(t, "keytabs", "mit-ktutil.keytab")))(t)
	var names []string
	for _, p := range k.Principals() {
		names = append(names, p.String())
	}
	filetest.Same(t, []string{"HTTP/big.krb5.test@KRB5.TEST", "müller@KRB5.TEST", "HTTP/sha2.krb5.test@KRB5.TEST"}, names)
}

func TestUnknownTypesAreKeptButUnusable(t *testing.T) {
	const unknown = enctype.ID(4711)
	k := &Keytab{Entries: []Entry{entry(t, "a@R", unknown, 1, 0, 'x')}}
	b := must.OK(k.Marshal())(t)
	again := must.OK(Parse(b))(t)
	if e := again.Entries[0]; e.Key.EType() != unknown || e.Key.EType().Supported() || string(e.Key.Bytes()) != "xxxxxxxx" {
		t.Errorf("%s", e)
	}
}

func TestMarshal_Errors(t *testing.T) {
	good := entry(t, "a@R", enctype.AES128_CTS_HMAC_SHA1_96, 1, 0, 'x')
	for name, change := range map[string]func(*Entry){
		"no key":       func(e *Entry) { e.Key = enctype.Key{} },
		"no name":      func(e *Entry) { e.Principal.Name.NameString = nil },
		"long name":    func(e *Entry) { e.Principal.Name.NameString = []string{strings.Repeat("x", 65536)} },
		"before 1970":  func(e *Entry) { e.Timestamp = time.Unix(-1, 0) },
		"after 2106":   func(e *Entry) { e.Timestamp = time.Unix(1<<32, 0) },
		"a long realm": func(e *Entry) { e.Principal.Realm = strings.Repeat("x", 65536) },
	} {
		e := good
		change(&e)
		if _, err := (&Keytab{Entries: []Entry{e}}).Marshal(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNoVerbShowsAKey(t *testing.T) {
	e := entry(t, "a@R", enctype.AES128_CTS_HMAC_SHA1_96, 7, 0, 'S')
	k := &Keytab{Entries: []Entry{e}}
	filetest.NoSecret(t, 'S', e, &e, k, *k)
	if b, err := json.Marshal(k); err == nil && strings.Contains(string(b), "U1NT") {
		t.Errorf("JSON shows the key: %s", b)
	}
	if s := e.String(); s != "a@R kvno 7 aes128-cts-hmac-sha1-96" {
		t.Errorf("an entry prints as %q", s)
	}
}
