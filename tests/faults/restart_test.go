package faults

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// restarted is a Caddy that logs in by a password at start, at MIT's KDC, and is started again and
// again.
type restarted struct {
	t        *testing.T
	kdc      *lab.MIT
	upstream *kdctest.Upstream
	password string // path of its file
	storage  string // folder
	starts   int
}

const restartedHost = "web0.lab.test"

func newRestarted(t *testing.T) *restarted {
	t.Helper()
	r := &restarted{t: t, storage: filepath.Join(t.TempDir(), "storage"), password: filepath.Join(t.TempDir(), "password")}
	r.kdc = lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: account, Password: password}, {Name: "HTTP/" + restartedHost}}})
	keys, err := os.ReadFile(r.kdc.Keytab(t, "HTTP/"+restartedHost))
	if err != nil {
		t.Fatal(err)
	}
	acceptor, err := kdctest.NewAcceptor(kdctest.AcceptorConfig{Keytab: keys})
	if err != nil {
		t.Fatal(err)
	}
	r.upstream = kdctest.NewUpstream(kdctest.UpstreamConfig{Acceptor: acceptor})
	if err := r.upstream.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.upstream.Stop)
	r.write("a wrong password")
	return r
}

func (r *restarted) write(password string) {
	caddytest.WriteFile(r.t, r.password, []byte(password+"\n"))
}

func (r *restarted) start() *process {
	r.t.Helper()
	r.starts++
	address := caddytest.FreeAddress(r.t)
	_, port, _ := net.SplitHostPort(address)
	return startCaddy(r.t, fmt.Sprintf("start-%d", r.starts), address, fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	storage file_system %s
}
http://:%s {
	bind 127.0.0.1
	negotiate {
		kdc %s
		user %s@LAB.TEST
		password_file %s
		spn HTTP/%s
	}
	reverse_proxy %s
}
`, r.storage, port, r.kdc.KDC(), account, r.password, restartedHost, r.upstream.Addr()), true)
}

// refused waits until the process has logged that it cannot log in.
func (r *restarted) refused(p *process) {
	r.t.Helper()
	caddytest.WaitFor(r.t, p.String()+" says that it cannot log in", func() bool {
		text, err := os.ReadFile(p.log)
		return err == nil && strings.Contains(string(text), "cannot log in") && strings.Contains(string(text), "not_before")
	})
}

// stored are the entries of breakers.
func (r *restarted) stored() []string {
	found, _ := filepath.Glob(filepath.Join(r.storage, "kerberos", "breakers", strings.Repeat("[0-9a-f]", 64)))
	return found
}

// locked reports whether a process has the lock of an entry.
func (r *restarted) locked() bool {
	found, _ := filepath.Glob(filepath.Join(r.storage, "locks", "*kerberos*"))
	return len(found) > 0
}

// proofs is how many proofs of a wrong password the KDC has got.
func (r *restarted) proofs() int {
	r.t.Helper()
	return r.kdc.Count(r.t, lab.Exchange{Kind: "AS_REQ", Status: "PREAUTH_FAILED"})
}

func (r *restarted) wantServed(p *process) {
	r.t.Helper()
	a, err := p.ask(r.t.Context(), caddytest.Client(r.t), restartedHost)
	if err != nil || a.Status != 200 || a.Body != account+"@LAB.TEST\n" {
		r.t.Fatalf("%v %v", a, err)
	}
}

func TestLockout_RestartLoop(t *testing.T) {
	r := newRestarted(t)
	for range 10 {
		p := r.start()
		r.refused(p)
		caddytest.WaitFor(t, "it is stored", func() bool { return len(r.stored()) == 1 && !r.locked() })
		p.kill()
	}
	if n := r.proofs(); n == 0 || n > 3 {
		t.Errorf("%d proofs of a wrong password in ten starts", n)
	}
	t.Logf("ten starts with a wrong password: %d proofs", r.proofs())
	r.write(password)
	r.wantServed(r.start().ready())
}

// Members that share a storage and start together count together.
func TestLockout_FleetStartsTogether(t *testing.T) {
	r := newRestarted(t)
	var all []*process
	for range 5 {
		all = append(all, r.start())
	}
	for _, p := range all {
		r.refused(p)
	}
	if n := r.proofs(); n == 0 || n > 3 {
		t.Errorf("%d proofs of a wrong password by five members", n)
	}
	r.write(password)
	for _, p := range all {
		r.wantServed(p.ready())
	}
}
