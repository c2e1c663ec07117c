package realms

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

// heimdal runs Heimdal's tools and KDC, which MIT's packages exclude from a system. HEIMDAL_ROOT names a folder into which
// the packages heimdal-kdc, heimdal-clients and their libraries were unpacked:
//
//	apt-get download heimdal-kdc heimdal-clients libkdc2-heimdal ... && for d in *.deb; do dpkg -x $d ROOT; done
type heimdal struct {
	t    *testing.T
	root string
	dir  string
	port string
	env  []string
}

const heimdalRealm = "HEIMDAL.TEST"

// startHeimdal makes a realm; the lines are of the section kdc.
func startHeimdal(t *testing.T, kdc ...string) *heimdal {
	t.Helper()
	root := os.Getenv("HEIMDAL_ROOT")
	if root == "" {
		t.Skip("on demand only: Heimdal's KDC (HEIMDAL_ROOT names the folder of its unpacked packages)")
	}
	_, port, _ := net.SplitHostPort(caddytest.FreeAddress(t))
	h := &heimdal{t: t, root: root, dir: t.TempDir(), port: port}
	libs, err := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
	if err != nil || len(libs) == 0 {
		t.Fatalf("no libraries below %s: %v", root, err)
	}
	h.env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libs, ":"), "KRB5_CONFIG="+h.path("krb5.conf"), "LC_ALL=C")
	conf := fmt.Sprintf(`[libdefaults]
	default_realm = %s
	allow_weak_crypto = true
[realms]
	%[1]s = {
		kdc = 127.0.0.1:%[2]s
	}
[kdc]
	database = {
		dbname = %[3]s
		acl_file = %[4]s
		mkey_file = %[5]s
		log_file = %[3]s.log
	}
	signal_socket = %[3]s.signal
	%[7]s
[kadmin]
	default_keys = des-cbc-md5:pw-salt des-cbc-crc:pw-salt des3-cbc-sha1:pw-salt arcfour-hmac-md5:pw-salt aes256-cts-hmac-sha1-96:pw-salt
[logging]
	default = FILE:%[6]s
`, heimdalRealm, port, h.path("db"), h.path("acl"), h.path("mkey"), h.path("log"), strings.Join(kdc, "\n\t"))
	if err := os.WriteFile(h.path("krb5.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	h.kadmin("init", "--realm-max-ticket-life=1d", "--realm-max-renewable-life=7d", heimdalRealm)
	return h
}

func (h *heimdal) path(name string) string { return filepath.Join(h.dir, name) }

func (h *heimdal) client(t *testing.T, with func(*krb5core.Config)) (*krb5core.Client, *recorder) {
	t.Helper()
	finder, tr := kdc.Static{heimdalRealm: {server(t, "127.0.0.1:"+h.port)}}, new(recorder)
	sender, err := kdc.NewSender(kdc.Config{Finder: finder, Observer: tr})
	if err != nil {
		t.Fatal(err)
	}
	cfg := krb5core.Config{Sender: sender, Finder: finder, Tracer: tr}
	with(&cfg)
	client, err := krb5core.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client, tr
}

func (h *heimdal) kadmin(args ...string) string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(h.root, "usr/bin/kadmin.heimdal"), append([]string{"-l"}, args...)...)
	cmd.Env, cmd.Dir = h.env, h.dir
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "kadmin.heimdal: ") {
		h.t.Fatalf("kadmin %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// run starts the KDC, which ends with the test.
func (h *heimdal) run() {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), filepath.Join(h.root, "usr/lib/heimdal-servers/kdc"),
		"--config-file="+h.path("krb5.conf"), "--ports="+h.port, "--addresses=127.0.0.1")
	cmd.Env, cmd.Dir = h.env, h.dir
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if conn, err := net.Dial("tcp", "127.0.0.1:"+h.port); err == nil {
			conn.Close()
			return
		}
		<-tick.C
	}
	log, _ := os.ReadFile(h.path("log"))
	h.t.Fatalf("the KDC does not listen:\n%s", log)
}

// only leaves a principal no key but those of the types.
func (h *heimdal) only(principal string, etypes ...string) {
	h.t.Helper()
	for _, e := range []string{"des-cbc-md5", "des-cbc-crc", "des3-cbc-sha1", "arcfour-hmac-md5", "aes256-cts-hmac-sha1-96"} {
		keep := false
		for _, k := range etypes {
			keep = keep || k == e
		}
		if !keep {
			h.kadmin("del_enctype", principal, e)
		}
	}
}

func TestHeimdal_Canonicalize(t *testing.T) {
	h := startHeimdal(t)
	h.kadmin("add", "-p", "secret", "--use-defaults", "--attributes=requires-pre-auth", "alice")
	h.kadmin("modify", "--alias=al", "alice")
	h.kadmin("add", "-r", "--use-defaults", "HTTP/app.heimdal.test")
	h.run()
	for _, canonicalize := range []bool{true, false} {
		client, tr := h.client(t, func(c *krb5core.Config) { c.Canonicalize = canonicalize })
		wantName(t, client, tr, password(t, "alice@"+heimdalRealm, "secret", nil), "HTTP/app.heimdal.test", "alice@"+heimdalRealm)
	}
	client, tr := h.client(t, func(c *krb5core.Config) { c.Canonicalize = true })
	wantName(t, client, tr, password(t, "al@"+heimdalRealm, "secret", nil), "HTTP/app.heimdal.test", "alice@"+heimdalRealm)
}

// Single DES and triple DES, as the user's key, the service's and the session's.
func TestHeimdal_WeakTypes(t *testing.T) {
	h := startHeimdal(t)
	types := map[string]enctype.ID{
		"des-cbc-md5": enctype.DES_CBC_MD5, "des-cbc-crc": enctype.DES_CBC_CRC, "des3-cbc-sha1": enctype.DES3_CBC_SHA1, "arcfour-hmac-md5": enctype.RC4_HMAC,
	}
	for name := range types {
		user, service := "user-"+name, "HTTP/"+name+".heimdal.test"
		h.kadmin("add", "-p", "secret", "--use-defaults", "--attributes=requires-pre-auth", user)
		h.kadmin("add", "-r", "--use-defaults", service)
		h.only(user, name)
		h.only(service, name)
	}
	h.run()
	client := func(t *testing.T, etypes ...enctype.ID) (*krb5core.Client, *recorder) {
		return h.client(t, func(c *krb5core.Config) { c.ETypes = etypes })
	}
	keytabs := h.path("all.keytab")
	for name := range types {
		h.kadmin("ext_keytab", "-k", keytabs, "user-"+name, "HTTP/"+name+".heimdal.test")
	}
	for name, id := range types {
		t.Run(name, func(t *testing.T) {
			user, service := "user-"+name+"@"+heimdalRealm, "HTTP/"+name+".heimdal.test"
			for _, a := range []*krb5core.Account{password(t, user, "secret", nil), keys(t, user, readKeytab(t, keytabs))} {
				c, tr := client(t, id)
				tgt := login(t, c, a)
				if e, ok := eventOf[exchange.KeyChosen](tr); !ok || e.EType != id || tgt.Key.EType() != id {
					t.Errorf("the key is %v, the session's %s", e, tgt.Key.EType())
				}
				if id == enctype.DES_CBC_CRC {
					// With a session key of this type Heimdal takes no keyed checksum, and we make no other (RFC 3961, Section 6.2.3).
					c, _ = client(t, enctype.DES_CBC_MD5, id)
					a = password(t, "user-des-cbc-md5@"+heimdalRealm, "secret", nil)
					tgt = login(t, c, a)
				}
				cred := ticket(t, c, a, tgt, service)
				part := opened(t, cred, keytabs)
				tkt, err := messages.ParseTicket(cred.Ticket)
				if err != nil {
					t.Fatal(err)
				}
				if cred.Key.EType() != id || tkt.EncPart.EType != id || !part.Key.Equal(cred.Key) {
					t.Errorf("session key %s, ticket %s", cred.Key.EType(), tkt.EncPart.EType)
				}
			}
		})
	}
}
