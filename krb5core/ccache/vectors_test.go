package ccache

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/filetest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// vector is a cache and what is in it, configuration and removed entries too.
type vector struct {
	filetest.Vector
	Version          int    `json:"version"`
	DefaultPrincipal string `json:"default_principal"`
	NameType         *int32 `json:"name_type"`
	Creds            []struct {
		Client          string `json:"client"`
		Server          string `json:"server"`
		ServerNameType  *int32 `json:"server_name_type"`
		EType           int32  `json:"etype"`
		Key             string `json:"key"`
		AuthTime        uint32 `json:"authtime"`
		StartTime       uint32 `json:"starttime"`
		EndTime         uint32 `json:"endtime"`
		RenewTill       uint32 `json:"renew_till"`
		IsSKey          int    `json:"is_skey"`
		Flags           string `json:"flags"`
		TicketLen       int    `json:"ticket_len"`
		TicketMD5       string `json:"ticket_md5"`
		SecondTicketLen int    `json:"second_ticket_len"`
	} `json:"creds"`
}

func loadVectors(t testing.TB) []vector { return filetest.Vectors[vector](t, "ccaches") }

// show shows a credential in one line.
func show(c *messages.Credential) string {
	unix := func(t time.Time) int64 {
		if t.IsZero() {
			return 0
		}
		return t.Unix()
	}
	key := ""
	etype := enctype.ID(0)
	if !c.Key.IsZero() {
		key, etype = hex.EncodeToString(c.Key.Bytes()), c.Key.EType()
	}
	return fmt.Sprintf("%s %s type %d key %d:%s times %d %d %d %d skey %t flags %08x ticket %d:%x second %d addresses %v authdata %v",
		c.Client, c.Service, c.Service.Name.NameType, int32(etype), key,
		unix(c.AuthTime), unix(c.StartTime), unix(c.EndTime), unix(c.RenewTill),
		c.IsSKey, uint32(c.Flags), len(c.Ticket), md5.Sum(c.Ticket), len(c.SecondTicket), c.Addresses, c.AuthData)
}

// shown is a whole cache, as text.
func shown(c *CCache) []string {
	list := []string{fmt.Sprintf("%s %d %v", c.DefaultPrincipal, c.DefaultPrincipal.Name.NameType, c.KDCOffset)}
	for i := range c.Credentials {
		list = append(list, show(&c.Credentials[i]))
	}
	return list
}

var cacheFormat = filetest.Format[*CCache]{
	Parse:   Parse,
	Marshal: (*CCache).Marshal,
	Show:    func(c *CCache) any { return []any{shown(c), c.Config} },
}

func TestParse_ReadsWhatMITWrites(t *testing.T) {
	for _, v := range loadVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			c, err := Parse(v.File)
			if v.Fails() {
				if _, ok := errors.AsType[*FormatError](err); !ok {
					t.Fatalf("error %v is no *FormatError", err)
				}
				return
			}
			must.Do(t, err)
			nameType := int32(1) // where version 1 has none
			if v.NameType != nil {
				nameType = *v.NameType
			}
			offset := time.Duration(0)
			if strings.Contains(v.Name, "time offset -5 s") {
				offset = -5 * time.Second
			}
			want := []string{fmt.Sprintf("%s %d %v", v.DefaultPrincipal, nameType, offset)}
			config := make(map[ConfigKey]string)
			for _, w := range v.Creds {
				if name, ok := strings.CutSuffix(w.Server, "@X-CACHECONF:"); ok {
					parts := strings.SplitN(name, "/", 3)
					config[ConfigKey{parts[1], parts[2]}] = fmt.Sprintf("%d:%s", w.TicketLen, w.TicketMD5)
					continue
				}
				if w.EndTime == 0 && w.AuthTime == 0xffffffff {
					continue
				}
				nameType := int32(1)
				if w.ServerNameType != nil {
					nameType = *w.ServerNameType
				}
				want = append(want, fmt.Sprintf("%s %s type %d key %d:%s times %d %d %d %d skey %t flags %s ticket %d:%s second %d addresses [] authdata []",
					w.Client, w.Server, nameType, w.EType, w.Key, w.AuthTime, w.StartTime, w.EndTime, w.RenewTill,
					w.IsSKey != 0, w.Flags, w.TicketLen, w.TicketMD5, w.SecondTicketLen))
			}
			if c.Version != v.Version {
				t.Errorf("version %d, want %d", c.Version, v.Version)
			}
			filetest.Same(t, want, shown(c))
			got := make(map[ConfigKey]string)
			for key, value := range c.Config {
				got[key] = fmt.Sprintf("%d:%x", len(value), md5.Sum(value))
			}
			filetest.Same(t, config, got)
		})
	}
}

func TestMarshal_WritesWhatMITWrites(t *testing.T) {
	cacheFormat.Identity(t, filetest.File(t, "ccaches", "mit-v4.ccache"))
}

func TestMarshal_RoundTripsEveryVersion(t *testing.T) {
	for _, v := range loadVectors(t) {
		if _, ok := cacheFormat.RoundTrip(t, v.File); ok == v.Fails() {
			t.Errorf("%s: read and written: %t", v.Name, ok)
		}
	}
}

// A cache has no count of its credentials: cut between two of them, or after
// the default principal, it is a shorter cache. Cut anywhere else it is an
// error.
func TestParse_Truncated(t *testing.T) {
	for _, v := range loadVectors(t) {
		file := v.File
		whole, err := Parse(file)
		if err != nil {
			continue
		}
		clean := 0
		for n := range file {
			c, err := Parse(file[:n])
			if err != nil {
				continue
			}
			clean++
			if got := shown(c); len(got) > len(shown(whole)) || cmp.Diff(shown(whole)[:len(got)], got) != "" {
				t.Errorf("%s: cut to %d bytes, it reads %q", v.Name, n, got)
			}
		}
		if want := len(v.Creds); clean != want {
			t.Errorf("%s: %d cuts are no error, want %d, one before each credential", v.Name, clean, want)
		}
	}
}

func TestParse_ByteOrders(t *testing.T) {
	for _, name := range []string{"mit-v1.ccache", "mit-v2.ccache"} {
		little := filetest.File(t, "ccaches", name)
		want := must.OK(Parse(little))(t)
		got := must.OK(Parse(bigEndian(little)))(t)
		if diff := cmp.Diff(shown(want), shown(got)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// bigEndian turns around every number of a file of version 1 or 2.
func bigEndian(little []byte) []byte {
	b := append([]byte(nil), little...)
	at := 2
	number := func(n int) (v int) {
		for i := range n {
			v |= int(little[at+i]) << (8 * i)
			b[at+i] = little[at+n-1-i]
		}
		at += n
		return v
	}
	data := func() { at += number(4) }
	principal := func() {
		components := 1
		if b[1] == 1 {
			components = 0
		} else {
			number(4)
		}
		components += number(4)
		for range components {
			data()
		}
	}
	list := func() {
		for n := number(4); n > 0; n-- {
			number(2)
			data()
		}
	}
	for principal(); at < len(b); {
		principal()
		principal()
		number(2)
		data()
		for range 4 {
			number(4)
		}
		at++
		number(4)
		list()
		list()
		data()
		data()
	}
	return b
}

func TestParse_Errors(t *testing.T) {
	good := filetest.File(t, "ccaches", "mit-v4.ccache")
	cacheFormat.Errors(t, map[string]filetest.ErrorCase{
		"empty":     {File: nil, Want: "byte 0: the file is empty"},
		"PEM":       {File: []byte("-----BEGIN CERTIFICATE-----\n"), Want: "byte 0: not a credential cache but a PEM file"},
		"krb5.conf": {File: []byte("# comment\n[libdefaults]\r\n"), Want: "byte 0: not a credential cache but text; is it a krb5.conf?"},
		"base64":    {File: []byte("BQQADAABAAg="), Want: "byte 0: a credential cache in base64: decode it first"},
		"version":   {File: []byte{5, 9}, Want: "byte 0: credential cache version 9 is unknown"},
		"other":     {File: []byte("MZ\x90\x00"), Want: "byte 0: not a credential cache: begins with 4d 5a 90 00 instead of 05 04"},
		"keytab":    {File: []byte("\x05\x02\x00\x00\x00\x53\x00\x02\x00\x0bEXAMPLE.COM"), Want: "if this is one, configure it as keytab"},
		"cut":       {File: good[:1000], Want: "is the file being written? (in the credential at byte "},
		"header":    {File: []byte{5, 4, 0, 8, 0, 1, 0, 4, 0, 0, 0, 0}, Want: "the time offset in the header has 4 bytes, not 8"},
	})
}

func FuzzParse(f *testing.F) {
	for _, v := range loadVectors(f) {
		f.Add([]byte(v.File))
	}
	f.Add(bigEndian(filetest.File(f, "ccaches", "mit-v1.ccache")))
	f.Add(bigEndian(filetest.File(f, "ccaches", "mit-v2.ccache")))
	// Marshal fails on a clock offset that only its fractions carry out of range.
	f.Fuzz(func(t *testing.T, file []byte) { cacheFormat.RoundTrip(t, file) })
}
