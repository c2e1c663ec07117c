package ccache

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// vector is a cache written by MIT krb5 1.20.1 or by hand after its
// documentation, and what is in it, configuration and removed entries too.
type vector struct {
	Name             string `json:"name"`
	File             string `json:"file"`
	Expect           string `json:"expect"`
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

func (v vector) file(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString(v.File)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func loadVectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile("../../tests/vectors/keytab-ccache.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		CCaches []vector `json:"ccaches"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.CCaches) == 0 {
		t.Fatal("vectors are missing")
	}
	return v.CCaches
}

// vectorNamed returns the file of one vector.
func vectorNamed(t testing.TB, name string) []byte {
	t.Helper()
	for _, v := range loadVectors(t) {
		if v.Name == name {
			return v.file(t)
		}
	}
	t.Fatalf("no vector %q", name)
	return nil
}

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

func TestParseReadsWhatMITWrites(t *testing.T) {
	for _, v := range loadVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			c, err := Parse(v.file(t))
			if strings.HasPrefix(v.Expect, "error") {
				var format *FormatError
				if !errors.As(err, &format) {
					t.Fatalf("error %v is no *FormatError", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
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
			if diff := cmp.Diff(want, shown(c)); diff != "" {
				t.Error(diff)
			}
			got := make(map[ConfigKey]string)
			for key, value := range c.Config {
				got[key] = fmt.Sprintf("%d:%x", len(value), md5.Sum(value))
			}
			if diff := cmp.Diff(config, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMarshalWritesWhatMITWrites(t *testing.T) {
	file := vectorNamed(t, "mit-v4.ccache")
	c, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(file, again); diff != "" {
		t.Errorf("written again it differs:\n%s", diff)
	}
}

func TestMarshalRoundTripsEveryVersion(t *testing.T) {
	for _, v := range loadVectors(t) {
		c, err := Parse(v.file(t))
		if err != nil {
			continue
		}
		b, err := c.Marshal()
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		again, err := Parse(b)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if diff := cmp.Diff(shown(c), shown(again)); diff != "" {
			t.Errorf("%s: %s", v.Name, diff)
		}
		if diff := cmp.Diff(c.Config, again.Config); diff != "" {
			t.Errorf("%s: %s", v.Name, diff)
		}
	}
}

// A cache has no count of its credentials: cut between two of them, or after
// the default principal, it is a shorter cache. Cut anywhere else it is an
// error.
func TestParseRefusesEveryCutWithinACredential(t *testing.T) {
	for _, v := range loadVectors(t) {
		file := v.file(t)
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

func TestParseReadsVersions1And2InBothByteOrders(t *testing.T) {
	for _, name := range []string{"mit-v1.ccache", "mit-v2.ccache"} {
		little := vectorNamed(t, name)
		want, err := Parse(little)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(bigEndian(little))
		if err != nil {
			t.Fatal(err)
		}
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

func TestParseErrorsNameOffsetReasonAndRemedy(t *testing.T) {
	good := vectorNamed(t, "mit-v4.ccache")
	for name, tt := range map[string]struct {
		file []byte
		want string
	}{
		"empty":     {nil, "byte 0: the file is empty"},
		"PEM":       {[]byte("-----BEGIN CERTIFICATE-----\n"), "byte 0: not a credential cache but a PEM file"},
		"krb5.conf": {[]byte("# comment\n[libdefaults]\r\n"), "byte 0: not a credential cache but a text; a krb5.conf?"},
		"base64":    {[]byte("BQQADAABAAg="), "byte 0: a credential cache in base64: decode it first"},
		"version":   {[]byte{5, 9}, "byte 0: credential cache version 9 is not known"},
		"other":     {[]byte("MZ\x90\x00"), "byte 0: not a credential cache: begins with 4d 5a 90 00 where 05 04 should be"},
		"keytab":    {[]byte("\x05\x02\x00\x00\x00\x53\x00\x02\x00\x0bEXAMPLE.COM"), "if this is one, name it as keytab"},
		"cut":       {good[:1000], "is the file being written? (in the credential at byte "},
		"header":    {[]byte{5, 4, 0, 8, 0, 1, 0, 4, 0, 0, 0, 0}, "the time offset in the header has 4 octets, not 8"},
	} {
		_, err := Parse(tt.file)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range loadVectors(f) {
		f.Add(v.file(f))
	}
	f.Add(bigEndian(vectorNamed(f, "mit-v1.ccache")))
	f.Add(bigEndian(vectorNamed(f, "mit-v2.ccache")))
	f.Fuzz(func(t *testing.T, file []byte) {
		c, err := Parse(file)
		if err != nil {
			return
		}
		b, err := c.Marshal()
		if err != nil {
			return // a clock offset that only its fractions carry out of range
		}
		again, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(shown(c), shown(again)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(c.Config, again.Config); diff != "" {
			t.Error(diff)
		}
	})
}
