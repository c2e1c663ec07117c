package faults

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// fleet is several Caddys on one storage, at MIT's KDC.
type fleet struct {
	t        *testing.T
	kdc      *lab.MIT
	upstream *kdctest.Upstream
	keytab   string
	storage  string // the global option's arguments
	built    bool
	hosts    []string
}

const fleetServices = 10

func newFleet(t *testing.T, storage string, built bool) *fleet {
	t.Helper()
	f := &fleet{t: t, storage: storage, built: built}
	principals := []lab.Principal{{Name: account, Password: password}}
	var services []string
	for i := range fleetServices {
		f.hosts = append(f.hosts, fmt.Sprintf("web%d.lab.test", i))
		services = append(services, "HTTP/"+f.hosts[i])
		principals = append(principals, lab.Principal{Name: services[i]})
	}
	f.kdc = lab.StartMIT(t, lab.MITOptions{Principals: principals})
	f.keytab = f.kdc.Keytab(t, account)
	keys, err := os.ReadFile(f.kdc.Keytab(t, services...))
	if err != nil {
		t.Fatal(err)
	}
	acceptor, err := kdctest.NewAcceptor(kdctest.AcceptorConfig{Keytab: keys})
	if err != nil {
		t.Fatal(err)
	}
	f.upstream = kdctest.NewUpstream(kdctest.UpstreamConfig{Acceptor: acceptor})
	if err := f.upstream.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.upstream.Stop)
	return f
}

// start starts a Caddy of the fleet.
func (f *fleet) start(name string, more ...string) *process {
	f.t.Helper()
	address := caddytest.FreeAddress(f.t)
	_, port, _ := net.SplitHostPort(address)
	return startCaddy(f.t, name, address, fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	storage %s
	kerberos {
		ticket_store storage
	}
}
http://:%s {
	bind 127.0.0.1
	header {
		X-Source "{http.negotiate.source}"
		defer
	}
	negotiate {
		kdc %s
		user %s@LAB.TEST
		keytab %s
		spn HTTP/{http.request.host}
		allow_spns HTTP/*.lab.test
		%s
	}
	reverse_proxy %s
}
`, f.storage, port, f.kdc.KDC(), account, f.keytab, strings.Join(more, "\n\t\t"), f.upstream.Addr()), f.built)
}

// wave asks each process for each service, all at once, and wants all authenticated. It
// answers how often the tickets came from where.
func (f *fleet) wave(processes ...*process) map[string]int {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		sources = make(map[string]int)
	)
	for _, p := range processes {
		client := caddytest.Client(f.t)
		for _, host := range f.hosts {
			wg.Go(func() {
				a, err := p.ask(ctx, client, host)
				if err != nil || a.Status != 200 || a.Body != account+"@LAB.TEST\n" {
					f.t.Errorf("%v, %s: %v %v", p, host, a, err)
				}
				mu.Lock()
				defer mu.Unlock()
				sources[a.Header.Get("X-Source")]++
			})
		}
	}
	wg.Wait()
	return sources
}

// wantOneOfEach fails unless the KDC issued one ticket-granting ticket and one
// ticket for each service.
func (f *fleet) wantOneOfEach() {
	f.t.Helper()
	if n := f.kdc.Logins(f.t, account+"@LAB.TEST"); n != 1 {
		f.t.Errorf("%d logins", n)
	}
	for _, host := range f.hosts {
		if n := f.kdc.Tickets(f.t, "HTTP/"+host+"@LAB.TEST"); n != 1 {
			f.t.Errorf("%d exchanges for %s", n, host)
		}
	}
}

func TestFleet_Files(t *testing.T) {
	testFleet(t, newFleet(t, "file_system "+filepath.Join(t.TempDir(), "storage"), true))
}

func TestFleet_Redis(t *testing.T) {
	address, stop := startRedis(t)
	f := newFleet(t, "redis "+address, false)
	first := testFleet(t, f)

	// The storage goes away: held tickets stay in use.
	stop()
	if sources := f.wave(first); sources["cache"] != fleetServices {
		t.Errorf("without the storage: %v", sources)
	}
	// A Caddy that starts without its storage works alone.
	f.wave(f.start("fifth").ready())
}

func testFleet(t *testing.T, f *fleet) *process {
	processes := []*process{f.start("first"), f.start("second"), f.start("third")}
	for _, p := range processes {
		p.ready()
	}
	sources := f.wave(processes...)
	f.wantOneOfEach()
	if n := sources["kdc"] + sources["storage"]; n != 3*fleetServices || sources["kdc"] > fleetServices {
		t.Errorf("tickets came from %v", sources)
	}
	t.Logf("three Caddys, ten services: one login, ten exchanges; tickets from %v", sources)

	// One that comes later, or again, asks the KDC for nothing.
	late := f.start("fourth").ready()
	if sources := f.wave(late); sources["storage"] != fleetServices {
		t.Errorf("after a restart tickets came from %v", sources)
	}
	f.wantOneOfEach()
	return late
}

func TestFleet_LockHolderKilledFiles(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "storage")
	testKilled(t, newFleet(t, "file_system "+folder, true), func() bool {
		locks, _ := filepath.Glob(filepath.Join(folder, "locks", "*kerberos*"))
		return len(locks) > 0
	})
}

func TestFleet_LockHolderKilledRedis(t *testing.T) {
	address, _ := startRedis(t)
	s := &redisStorage{Address: address}
	t.Cleanup(s.close)
	testKilled(t, newFleet(t, "redis "+address, false), func() bool {
		locks, err := s.List(t.Context(), "lock:kerberos/tickets", true)
		return err == nil && len(locks) > 0
	})
}

func testKilled(t *testing.T, f *fleet, locked func() bool) {
	f.kdc.Pause()
	first := f.start("first").ready() // its login at start has the lock, and waits for the KDC
	caddytest.WaitFor(t, "a lock is held", locked)
	first.kill()
	f.kdc.Resume()
	if !locked() {
		t.Fatal("the lock went with the one that held it: nothing was shown")
	}
	second, third := f.start("second"), f.start("third")
	f.wave(second.ready(), third.ready())
	n := f.kdc.Logins(t, account+"@LAB.TEST")
	if n < 1 || n > 3 { // the killed one's question may have been answered too
		t.Errorf("%d logins", n)
	}
	t.Logf("a lock left behind: the others work, with %d logins", n)
}
