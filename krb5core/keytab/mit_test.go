package keytab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/filetest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestMarshal_MITReads(t *testing.T) {
	k := &Keytab{Entries: []Entry{
		entry(t, "HTTP/web.example.com@EXAMPLE.COM", enctype.AES256_CTS_HMAC_SHA1_96, 300, 1500000000, 'A'),
		entry(t, "HTTP/web.example.com@EXAMPLE.COM", enctype.AES128_CTS_HMAC_SHA256_128, 300, 1500000000, 'B'),
		entry(t, "müller@EXAMPLE.COM", enctype.RC4_HMAC, 1, 0, 'C'),
		entry(t, "WEB01$@EXAMPLE.COM", enctype.CAMELLIA256_CTS_CMAC, 255, 4000000000, 'D'),
	}}
	b := must.OK(k.Marshal())(t)
	got := filetest.MIT(t, "", "klist", "-k", "-e", "-K", filetest.WriteFile(t, b))[3:]
	for i := range got {
		got[i] = strings.Replace(got[i], "(DEPRECATED:", "(", 1)
	}
	want := []string{
		"300 HTTP/web.example.com@EXAMPLE.COM (aes256-cts-hmac-sha1-96) (0x" + strings.Repeat("41", 32) + ")",
		"300 HTTP/web.example.com@EXAMPLE.COM (aes128-cts-hmac-sha256-128) (0x" + strings.Repeat("42", 16) + ")",
		"1 müller@EXAMPLE.COM (arcfour-hmac) (0x" + strings.Repeat("43", 16) + ")",
		"255 WEB01$@EXAMPLE.COM (camellia256-cts-cmac) (0x" + strings.Repeat("44", 32) + ")",
	}
	filetest.Same(t, want, got)
}

func TestParse_Ktutil(t *testing.T) {
	name := filepath.Join(t.TempDir(), "keytab")
	filetest.MIT(t, "addent -password -p HTTP/a.b@R -k 258 -e aes128-cts\nsecret\n"+
		"addent -password -p x@R -k 2 -e aes256-sha2\nsecret\nwkt "+name+"\nquit\n", "ktutil")
	b := must.OK(os.ReadFile(name))(t)
	k := must.OK(Parse(b))(t)
	want := filetest.MIT(t, "", "klist", "-k", "-K", name)[3:]
	var got []string
	for _, s := range show(k) {
		got = append(got, fmt.Sprintf("%d %s (0x%s)", s.KVNO, s.Principal, s.Key))
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got) != 2 {
		t.Errorf("%d entries, klist's differ: %s", len(got), diff)
	}
	keytabFormat.Identity(t, b)
}
