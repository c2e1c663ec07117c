package faults

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// rotating is an account at MIT's KDC, whose Caddys change its password.
type rotating struct {
	t        *testing.T
	kdc      *lab.MIT
	kadmind  *lab.Kadmind
	server   string // that changes passwords
	upstream *kdctest.Upstream
	storage  string // folder
	key      string // path of that of the ticket store; empty for none
	every    string
	starts   int
}

const rotatingHost = "web0.lab.test"

func newRotating(t *testing.T, every string, opts lab.MITOptions) *rotating {
	t.Helper()
	r := &rotating{t: t, every: every, storage: filepath.Join(t.TempDir(), "storage")}
	opts.Principals = append(opts.Principals, lab.Principal{Name: "HTTP/" + rotatingHost})
	if len(opts.Principals) == 1 {
		opts.Principals = append(opts.Principals, lab.Principal{Name: account, Password: password})
	}
	r.kdc = lab.StartMIT(t, opts)
	r.kadmind = r.kdc.StartKadmind(t, opts.Skew)
	r.server = r.kdc.Kpasswd()
	keys, err := os.ReadFile(r.kdc.Keytab(t, "HTTP/"+rotatingHost))
	if err != nil {
		t.Fatal(err)
	}
	acceptor, err := kdctest.NewAcceptor(kdctest.AcceptorConfig{Keytab: keys, Now: func() time.Time { return time.Now().Add(opts.Skew) }})
	if err != nil {
		t.Fatal(err)
	}
	r.upstream = kdctest.NewUpstream(kdctest.UpstreamConfig{Acceptor: acceptor})
	if err := r.upstream.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.upstream.Stop)
	return r
}

// file is a password file that is due.
func (r *rotating) file() string {
	r.t.Helper()
	return r.due(caddytest.WriteFile(r.t, filepath.Join(r.t.TempDir(), "password"), []byte(password+"\n")))
}

// due makes a file old.
func (r *rotating) due(path string) string {
	r.t.Helper()
	old := time.Now().Add(-1000 * time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// start starts a Caddy with a secret: password_file FILE or keytab FILE.
func (r *rotating) start(secret string) *process {
	r.t.Helper()
	r.starts++
	address := caddytest.FreeAddress(r.t)
	_, port, _ := net.SplitHostPort(address)
	store := ""
	if r.key != "" {
		store = "kerberos {\nticket_store storage {file." + r.key + "}\n}"
	}
	return startCaddy(r.t, fmt.Sprintf("start-%d", r.starts), address, fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	storage file_system %s
	%s
}
http://:%s {
	bind 127.0.0.1
	negotiate {
		kdc %s
		user %s@LAB.TEST
		%s
		rotate_password %s
		kdc_options {
			kpasswd_server %s
		}
		spn HTTP/%s
	}
	reverse_proxy %s
}
`, r.storage, store, port, r.kdc.KDC(), account, secret, r.every, r.server, rotatingHost, r.upstream.Addr()), true)
}

var kvnoLine = regexp.MustCompile(`Key: vno (\d+)`)

// kvno is the version of the account's key: one more than its password was changed.
func (r *rotating) kvno() int {
	r.t.Helper()
	found := kvnoLine.FindStringSubmatch(r.kdc.Kadmin(r.t, "getprinc "+account))
	if found == nil {
		r.t.Fatal("kadmin names no key version")
	}
	n, _ := strconv.Atoi(found[1])
	return n
}

func (r *rotating) wantServed(p *process) {
	r.t.Helper()
	a, err := p.ask(r.t.Context(), caddytest.Client(r.t), rotatingHost)
	if err != nil || a.Status != 200 || a.Body != account+"@LAB.TEST\n" {
		r.t.Fatalf("%v: %v %v", p, a, err)
	}
}

// proofs is how many proofs of a wrong password the KDC has got. It counts those of the right one with a wrong
// time in the same way.
func (r *rotating) proofs() int {
	r.t.Helper()
	failed := lab.Exchange{Kind: "AS_REQ", Status: "PREAUTH_FAILED"}
	skewed := failed
	skewed.Error = "Clock skew too great"
	return r.kdc.Count(r.t, failed) - r.kdc.Count(r.t, skewed)
}

// logged is how often a process has logged a text.
func logged(p *process, text string) int {
	content, _ := os.ReadFile(p.log)
	return bytes.Count(content, []byte(text))
}

const rotated = "the password was changed"

// awaitSettled waits until nothing is beside the file.
func (r *rotating) awaitSettled(path string) {
	r.t.Helper()
	caddytest.WaitFor(r.t, "nothing is beside "+path, func() bool {
		left, _ := filepath.Glob(path + ".*")
		return len(left) == 0
	})
}

// Requests while the password is changed again and again, and tickets end within seconds: none fails.
func TestRotation_UnderTraffic(t *testing.T) {
	for _, kind := range []string{"password_file", "keytab"} {
		t.Run(kind, func(t *testing.T) {
			r := newRotating(t, "1s", lab.MITOptions{MaxLife: 10 * time.Second, MaxRenewLife: 10 * time.Second})
			path := r.file()
			if kind == "keytab" {
				path = filepath.Join(t.TempDir(), "keytab")
				caddytest.WriteFile(t, path, []byte(caddytest.ReadFile(t, r.kdc.Keytab(t, account))))
			}
			before := r.kvno()
			p := r.start(kind + " " + path).ready()
			changes, requests := caddytest.Long(3, 60), 0
			client := caddytest.Client(t)
			deadline := time.Now().Add(10 * time.Minute)
			for logged(p, rotated) < changes {
				if time.Now().After(deadline) {
					t.Fatalf("%d changes in ten minutes", logged(p, rotated))
				}
				a, err := p.ask(t.Context(), client, rotatingHost)
				if requests++; err != nil || a.Status != 200 || a.Body != account+"@LAB.TEST\n" {
					t.Fatalf("request %d: %v %v", requests, a, err)
				}
			}
			p.kill()
			if kind == "password_file" && logged(p, strings.TrimSpace(caddytest.ReadFile(t, path))) > 0 {
				t.Error("the log shows the password")
			}
			if n := r.kvno() - before; n < changes || n > changes+1 {
				t.Errorf("%d changes at the KDC, %d logged", n, changes)
			}
			if n := r.proofs(); n != 0 {
				t.Errorf("%d proofs of a wrong password", n)
			}
			t.Logf("%d changes of the password, %d logins, %d requests, none failed", r.kvno()-before, r.kdc.Logins(t, account+"@LAB.TEST"), requests)
		})
	}
}

// kill -9 at random moments while the password is changed again and again: the Caddy that starts
// afterwards logs in by itself.
func TestRotation_Killed(t *testing.T) {
	for _, kind := range []string{"password_file", "keytab"} {
		t.Run(kind, func(t *testing.T) {
			r := newRotating(t, "1ms", lab.MITOptions{})
			path := r.file()
			if kind == "keytab" {
				path = filepath.Join(t.TempDir(), "keytab")
				caddytest.WriteFile(t, path, []byte(caddytest.ReadFile(t, r.kdc.Keytab(t, account))))
				r.due(path)
			}
			kills, most, left, ahead := caddytest.Long(3, 25), 0, 0, 0
			for i := range kills {
				r.storage = filepath.Join(t.TempDir(), fmt.Sprint("storage-", i)) // a lock that is left behind takes ten seconds
				before, version := r.proofs(), r.kvno()
				p := r.start(kind + " " + path).ready()
				r.wantServed(p)
				caddytest.WaitFor(t, "a change has begun", func() bool {
					found, _ := filepath.Glob(path + ".next*")
					return len(found) > 0 || logged(p, rotated) > 0
				})
				hold := time.NewTimer(time.Duration(mathrand.IntN(700)) * time.Millisecond)
				<-hold.C
				p.kill()
				if n := r.proofs() - before; n > 3 {
					t.Errorf("start %d: %d proofs of a wrong password", i, n)
				} else {
					most = max(most, n)
				}
				if _, err := os.Stat(path + ".next"); err == nil {
					left++
				}
				ahead += r.kvno() - version
			}
			r.every = "30d"
			r.storage = filepath.Join(t.TempDir(), "storage-last")
			before := r.proofs()
			p := r.start(kind + " " + path).ready()
			r.wantServed(p)
			r.awaitSettled(path)
			if n := r.proofs() - before; n > 3 {
				t.Errorf("the last start: %d proofs of a wrong password", n)
			}
			p.kill()
			last := r.start(kind + " " + path).ready() // with the file alone
			r.wantServed(last)
			t.Logf("%d kills, %d changes at the KDC; a candidate was left by %d; at most %d wrong proofs a start", kills, ahead, left, most)
		})
	}
}

// Caddys that start together with one old file change the password once.
func TestRotation_OneOfAll(t *testing.T) {
	r := newRotating(t, "30d", lab.MITOptions{})
	path := r.file()
	var all []*process
	for range 3 {
		all = append(all, r.start("password_file "+path))
	}
	for _, p := range all {
		r.wantServed(p.ready())
	}
	caddytest.WaitFor(t, "the password is changed", func() bool { return r.kvno() > 1 })
	r.awaitSettled(path)
	for _, p := range all {
		p.kill()
	}
	if n := r.kvno(); n != 2 {
		t.Errorf("%d changes", n-1)
	}
	r.wantServed(r.start("password_file " + path).ready())
	if n := r.proofs(); n != 0 {
		t.Errorf("%d proofs of a wrong password", n)
	}
}

// Two hosts with a file each, and a storage and its key in common.
func TestRotation_TwoHosts(t *testing.T) {
	r := newRotating(t, "30d", lab.MITOptions{})
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	r.key = caddytest.WriteFile(t, filepath.Join(t.TempDir(), "key"), []byte(base64.StdEncoding.EncodeToString(key)))
	one, other := r.file(), r.file()
	a, b := r.start("password_file "+one), r.start("password_file "+other)
	r.wantServed(a.ready())
	r.wantServed(b.ready())
	caddytest.WaitFor(t, "the password is changed", func() bool { return logged(a, rotated)+logged(b, rotated) > 0 })
	a.kill()
	b.kill()
	// Whichever has not written its file logs in with what the other has put into the storage.
	a, b = r.start("password_file "+one), r.start("password_file "+other)
	r.wantServed(a.ready())
	r.wantServed(b.ready())
	caddytest.WaitFor(t, "both files have the new password", func() bool {
		content := caddytest.ReadFile(t, one)
		return content == caddytest.ReadFile(t, other) && content != password+"\n"
	})
	if n := r.kvno(); n != 2 {
		t.Errorf("%d changes", n-1)
	}
	if n := r.proofs(); n > 3 {
		t.Errorf("%d proofs of a wrong password", n)
	}
	sealed, _ := filepath.Glob(filepath.Join(r.storage, "kerberos", "passwords", "*"))
	if len(sealed) != 1 || strings.Contains(caddytest.ReadFile(t, sealed[0]), strings.TrimSpace(caddytest.ReadFile(t, one))) {
		t.Errorf("the storage has %v", sealed)
	}
}

// A refusal changes nothing, is logged in words, and is not tried again.
func TestRotation_RefusedByPolicy(t *testing.T) {
	r := newRotating(t, "30d", lab.MITOptions{
		Policies: []string{"-minlife 1day young"}, Principals: []lab.Principal{{Name: account, Password: password, Policy: "young"}},
	})
	path := r.file()
	p := r.start("password_file " + path).ready()
	caddytest.WaitFor(t, "the refusal is logged", func() bool { return logged(p, "the password is not changed") > 0 })
	r.wantServed(p)
	r.awaitSettled(path)
	if content := caddytest.ReadFile(t, path); content != password+"\n" || r.kvno() != 1 {
		t.Errorf("the file has changed, or the password: version %d", r.kvno())
	}
	if n := logged(p, "the password is not changed"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	for _, want := range []string{`result 4`, `"remedy"`, `"not_before"`} {
		if logged(p, want) == 0 {
			t.Errorf("the log has no %s", want)
		}
	}
	if n := r.proofs(); n != 0 {
		t.Errorf("%d proofs of a wrong password", n)
	}
}

// The clocks of KDC, kadmind and upstream differ from ours.
func TestRotation_WrongClock(t *testing.T) {
	r := newRotating(t, "30d", lab.MITOptions{Skew: -20 * time.Minute})
	path := r.file()
	p := r.start("password_file " + path).ready()
	caddytest.WaitFor(t, "the password is changed", func() bool { return logged(p, rotated) == 1 })
	r.wantServed(p)
	if n := r.proofs(); n != 0 {
		t.Errorf("%d proofs of a wrong password", n)
	}
}

// kadmind changes the password, and its reply is lost.
func TestRotation_LostReply(t *testing.T) {
	r := newRotating(t, "30d", lab.MITOptions{})
	kadmind := r.server
	var dropped atomic.Int64
	r.server = relay(t, kadmind, &dropped)
	path := r.file()
	p := r.start("password_file " + path).ready()
	caddytest.WaitFor(t, "the password is changed", func() bool { return logged(p, rotated) == 1 })
	r.awaitSettled(path)
	if dropped.Load() == 0 || r.kvno() != 2 {
		t.Errorf("%d replies dropped, %d changes", dropped.Load(), r.kvno()-1)
	}
	p.kill()
	r.wantServed(r.start("password_file " + path).ready())
	if n := r.proofs(); n != 0 {
		t.Errorf("%d proofs of a wrong password", n)
	}
}

// relay passes requests on over TCP, and drops the replies.
func relay(t *testing.T, to string, dropped *atomic.Int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if dropReply(c, to) == nil {
					dropped.Add(1)
				}
				_, _ = io.Copy(io.Discard, c) // silence, until the client goes
			}()
		}
	}()
	return l.Addr().String()
}

// dropReply passes one request on, and reads the reply.
func dropReply(c net.Conn, to string) error {
	var length [4]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return err
	}
	request := make([]byte, binary.BigEndian.Uint32(length[:])&0xffff)
	if _, err := io.ReadFull(c, request); err != nil {
		return err
	}
	server, err := net.Dial("tcp", to)
	if err != nil {
		return err
	}
	defer server.Close()
	if _, err := server.Write(append(length[:], request...)); err != nil {
		return err
	}
	_, err = io.ReadFull(server, length[:])
	return err
}
