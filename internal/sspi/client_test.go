package sspi

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

const target = "HTTP/web.corp.example"

func TestInitiate_MutualAuthentication(t *testing.T) {
	c, d := NewDouble(t)
	x, token, err := c.Initiate(t.Context(), Request{Target: target, Mutual: true})
	if err != nil || string(token) != "token" || x == nil {
		t.Fatalf("%v, %q, %v", x, token, err)
	}
	must.Do(t, x.Verify([]byte("answer")))
	x.Close()
	x.Close()

	x, _, err = c.Initiate(t.Context(), Request{Target: target, Mutual: true})
	must.Do(t, err)
	defer x.Close()
	wrong, ok := errors.AsType[*Error](x.Verify([]byte("garbage")))
	if !ok || wrong.Status != SEC_E_INVALID_TOKEN || wrong.Target != target {
		t.Errorf("a wrong answer: %v", wrong)
	}

	d.NotMutual = true
	unproven, _, err := c.Initiate(t.Context(), Request{Target: target, Mutual: true})
	must.Do(t, err)
	defer unproven.Close()
	if err := unproven.Verify([]byte("answer")); !errors.Is(err, ErrNotMutual) {
		t.Errorf("an answer that proves nothing: %v", err)
	}
	if err := unproven.Verify(nil); !errors.Is(err, ErrNotMutual) {
		t.Errorf("no answer: %v", err)
	}
	if n := d.Counts(); n.Acquired != 1 {
		t.Errorf("%d credentials handles", n.Acquired)
	}
}

func TestInitiate_FlagsAndBindings(t *testing.T) {
	c, d := NewDouble(t)
	const data = "tls-server-end-point:0123456789abcdef0123456789abcdef"
	want := must.OK(gss.NewChannelBindings([]byte(data)))(t)
	for _, r := range []Request{
		{Target: target},
		{Target: target, Mutual: true},
		{Target: target, Delegate: true},
		{Target: target, Mutual: true, Bindings: data},
		{Target: target + "@CORP.EXAMPLE", Bindings: data},
	} {
		flags := uint32(requestAlways)
		if r.Mutual {
			flags |= 2
		}
		if r.Delegate {
			flags |= 1
		}
		d.Bindings = r.Bindings
		d.Initiate = func(target string, got uint32, bindings *gss.ChannelBindings) ([]byte, func([]byte) Status, Status) {
			if target != r.Target || got != flags || (bindings != nil) != (r.Bindings != "") || bindings != nil && *bindings != want {
				t.Errorf("%+v: target %q, flags %#x, bindings %x", r, target, got, bindings)
			}
			status := SEC_E_OK
			if r.Mutual {
				status = SEC_I_CONTINUE_NEEDED
			}
			return []byte("token"), func([]byte) Status { return SEC_E_OK }, status
		}
		x, _, err := c.Initiate(t.Context(), r)
		if err != nil || (x != nil) != r.Mutual {
			t.Errorf("%+v: %v, %v", r, x, err)
		}
		x.Close()
	}
}

func TestInitiate_FailureLeavesNothing(t *testing.T) {
	c, d := NewDouble(t)
	for _, status := range []Status{SEC_E_TARGET_UNKNOWN, SEC_E_NO_AUTHENTICATING_AUTHORITY, 0x80090999} {
		d.Initiate = func(string, uint32, *gss.ChannelBindings) ([]byte, func([]byte) Status, Status) {
			return nil, nil, status
		}
		x, token, err := c.Initiate(t.Context(), Request{Target: target, Mutual: true})
		failed, ok := errors.AsType[*Error](err)
		if x != nil || token != nil || !ok || failed.Status != status || !strings.Contains(err.Error(), status.String()) {
			t.Errorf("%s: %v, %q, %v", status, x, token, err)
		}
	}
	if n := d.Counts(); n.Acquired != 1 {
		t.Errorf("%d credentials handles", n.Acquired)
	}
	for _, token := range [][]byte{nil, {}} { // success without a token
		d.Initiate = func(string, uint32, *gss.ChannelBindings) ([]byte, func([]byte) Status, Status) {
			return token, nil, SEC_I_CONTINUE_NEEDED
		}
		if x, _, err := c.Initiate(t.Context(), Request{Target: target, Mutual: true}); err == nil || x != nil {
			t.Error("an empty token")
		}
	}
	if _, _, err := c.Initiate(t.Context(), Request{Target: "HTTP/a\x00b"}); err == nil {
		t.Error("a target with a zero in it")
	}
	d.Acquire = SEC_E_NO_CREDENTIALS
	c.Close()
	_, _, err := c.Initiate(t.Context(), Request{Target: target})
	if failed, ok := errors.AsType[*Error](err); !ok || failed.Status != SEC_E_NO_CREDENTIALS || !failed.Status.Missing() {
		t.Errorf("without credentials: %v", err)
	}
}

func TestInitiate_StaleCredentialsAreAcquiredAgain(t *testing.T) {
	c, d := NewDouble(t)
	held, _, err := c.Initiate(t.Context(), Request{Target: target, Mutual: true})
	must.Do(t, err)
	calls := 0
	d.Initiate = func(string, uint32, *gss.ChannelBindings) ([]byte, func([]byte) Status, Status) {
		if calls++; calls == 1 {
			return nil, nil, SEC_E_NO_CREDENTIALS
		}
		return []byte("new"), nil, SEC_E_OK
	}
	if _, token, err := c.Initiate(t.Context(), Request{Target: target}); err != nil || string(token) != "new" {
		t.Fatalf("%q, %v", token, err)
	}
	if n := d.Counts(); n.Acquired != 2 || n.FreedCredentials != 0 {
		t.Errorf("%+v: the old credentials are still in use", n)
	}
	must.Do(t, held.Verify([]byte("answer")))
	held.Close()
	if n := d.Counts(); n.FreedCredentials != 1 {
		t.Errorf("%+v: the old credentials are not in use any more", n)
	}
	calls = 0
	d.Initiate = func(string, uint32, *gss.ChannelBindings) ([]byte, func([]byte) Status, Status) {
		calls++
		return nil, nil, SEC_E_CONTEXT_EXPIRED
	}
	if _, _, err := c.Initiate(t.Context(), Request{Target: target}); err == nil || calls != 2 {
		t.Errorf("%d attempts, %v", calls, err)
	}
}

func TestInitiate_CallerThatLeaves(t *testing.T) {
	c, d := NewDouble(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	begin := d.Initiate
	d.Initiate = func(target string, flags uint32, bindings *gss.ChannelBindings) ([]byte, func([]byte) Status, Status) {
		close(entered)
		<-leave
		return begin(target, flags, bindings)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, _, err := c.Initiate(ctx, Request{Target: target, Mutual: true})
		done <- err
	}()
	must.Receive(t, "the call", entered)
	cancel()
	if err := must.Receive(t, "the caller", done); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(leave)
	for range cap(c.slots) { // the call ends, and its context is deleted
		c.slots <- struct{}{}
	}
	for range cap(c.slots) {
		<-c.slots
	}
	waitFor(t, "the context to be deleted", func() bool { return d.Counts().Deleted == 1 })
}

// waitFor yields until done.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}

// The number of contexts is a million in long runs.
func TestInitiate_ContextsDoNotLeak(t *testing.T) {
	contexts := 20_000
	if os.Getenv("CADDY_NEGOTIATE_LONG") != "" {
		contexts = 1_000_000
	}
	const workers = 16
	c, d := NewDouble(t)
	// The double's own pool: the product's is used.
	c.memory = &checkedPool{Double: d}
	run := func(n int) {
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				for i := range n / workers {
					x, token, err := c.Initiate(t.Context(), Request{Target: target, Mutual: true})
					if err != nil || string(token) != "token" {
						t.Errorf("%q, %v", token, err)
						return
					}
					if i%2 == 0 {
						if err := x.Verify([]byte("answer")); err != nil {
							t.Error(err)
						}
					}
					x.Close()
				}
			})
		}
		all.Wait()
	}
	run(contexts / 10)
	before := heap()
	run(contexts)
	after := heap()
	n := d.Counts()
	if n.Begun != n.Deleted || n.Acquired != 1 || n.MostContexts > workers {
		t.Errorf("%+v", n)
	}
	if grown := int64(after) - int64(before); grown > 4<<20 {
		t.Errorf("%d bytes more after %d contexts", grown, contexts)
	}
	t.Logf("%d contexts, at most %d at a time, heap %d bytes before and %d after", n.Begun, n.MostContexts, before, after)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// checkedPool is the product's pool, with the double's record of what is lent.
type checkedPool struct {
	*Double
	pooled pooled
}

func (p *checkedPool) get(size int) *contextCall {
	c := p.pooled.get(size)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lent[c] = true
	if slices.ContainsFunc(c.token, func(b byte) bool { return b != 0 }) || len(c.bindings) != 0 || c.input != nil || c.context != nil {
		p.fault("memory has something of its last use")
	}
	return c
}

func (p *checkedPool) put(c *contextCall) {
	p.mu.Lock()
	delete(p.lent, c)
	p.mu.Unlock()
	p.pooled.put(c)
}

// What the double is for: each of these mistakes is found.
func TestDouble_FindsMistakes(t *testing.T) {
	const data = "tls-server-end-point:x"
	begin := func(c *Client, d *Double, change func(*contextCall)) (*contextCall, *credentials) {
		used, err := c.acquire()
		must.Do(t, err)
		m := d.get(doubleToken)
		name, err := terminated(target)
		must.Do(t, err)
		m.credentials, m.target, m.flags = &used.handle, &name[0], requestAlways|requestMutual
		m.outputBuffer = secBuffer{size: doubleToken, kind: bufferToken, data: &m.token[0]}
		m.output = secBufferDesc{count: 1, buffers: &m.outputBuffer}
		m.bindings = appendBindings(nil, data)
		m.setInput(bufferChannelBindings, m.bindings)
		change(m)
		return m, used
	}
	for name, row := range map[string]struct {
		mistake func(c *Client, d *Double)
		want    string
	}{
		"none": {func(c *Client, d *Double) {
			m, used := begin(c, d, func(*contextCall) {})
			c.call.initializeSecurityContext(m)
			c.call.deleteSecurityContext(&m.newContext)
			d.put(m)
			c.release(used)
		}, ""},
		"bindings in the second call only": {func(c *Client, d *Double) {
			m, used := begin(c, d, func(m *contextCall) { m.input = nil })
			c.call.initializeSecurityContext(m)
			h := m.newContext
			m.context = &h
			m.setInput(bufferChannelBindings, m.bindings)
			c.call.initializeSecurityContext(m)
			c.call.deleteSecurityContext(&h)
			d.put(m)
			c.release(used)
		}, "a first call without channel bindings"},
		"an address type where there is none": {func(c *Client, d *Double) {
			m, used := begin(c, d, func(m *contextCall) { m.bindings[0] = 2 })
			c.call.initializeSecurityContext(m)
			c.call.deleteSecurityContext(&m.newContext)
			d.put(m)
			c.release(used)
		}, "channel bindings have addresses"},
		"fields at other offsets": {func(c *Client, d *Double) {
			m, used := begin(c, d, func(m *contextCall) {
				m.bindings = append(make([]byte, 4), m.bindings...)
				m.setInput(bufferChannelBindings, m.bindings)
			})
			c.call.initializeSecurityContext(m)
			c.call.deleteSecurityContext(&m.newContext)
			d.put(m)
			c.release(used)
		}, "channel bindings"},
		"other data": {func(c *Client, d *Double) {
			m, used := begin(c, d, func(m *contextCall) { m.bindings[len(m.bindings)-1]++ })
			c.call.initializeSecurityContext(m)
			c.call.deleteSecurityContext(&m.newContext)
			d.put(m)
			c.release(used)
		}, "instead of"},
		"a buffer of another kind": {func(c *Client, d *Double) {
			m, used := begin(c, d, func(m *contextCall) { m.inputBuffer.kind = bufferToken })
			c.call.initializeSecurityContext(m)
			c.call.deleteSecurityContext(&m.newContext)
			d.put(m)
			c.release(used)
		}, "a buffer of kind 2 instead of 14"},
		"a freed buffer": {func(c *Client, d *Double) {
			m, used := begin(c, d, func(*contextCall) {})
			d.put(m)
			c.call.initializeSecurityContext(m)
			c.call.deleteSecurityContext(&m.newContext)
			c.release(used)
		}, "memory that was given back"},
		"a context that is not deleted": {func(c *Client, d *Double) {
			m, used := begin(c, d, func(*contextCall) {})
			c.call.initializeSecurityContext(m)
			d.put(m)
			c.release(used)
		}, "1 contexts were not released"},
		"a context that is deleted twice": {func(c *Client, d *Double) {
			m, used := begin(c, d, func(*contextCall) {})
			c.call.initializeSecurityContext(m)
			c.call.deleteSecurityContext(&m.newContext)
			c.call.deleteSecurityContext(&m.newContext)
			d.put(m)
			c.release(used)
		}, "no handle of contexts"},
		"credentials that are freed": {func(c *Client, d *Double) {
			m, used := begin(c, d, func(*contextCall) {})
			c.release(used)
			c.Close()
			c.call.initializeSecurityContext(m)
			c.call.deleteSecurityContext(&m.newContext)
			d.put(m)
		}, "no handle of credentials"},
		"memory of Windows that is not freed": {func(c *Client, _ *Double) {
			var info *packageInfo
			name, err := terminated(packageName)
			must.Do(t, err)
			c.call.querySecurityPackageInfo(&name[0], &info)
		}, "1 buffers were not released"},
		"a purge of everything": {func(c *Client, _ *Double) {
			message := append(queryRequest(purgeTicketCache), make([]byte, 4+4*int(pointer))...)
			_ = c.lsa.ask(message, nil)
		}, `purge of "" of ""`},
	} {
		t.Run(name, func(t *testing.T) {
			var inner recorder
			c, d := NewDouble(&inner)
			d.Bindings = data
			row.mistake(c, d)
			c.Close()
			faults := strings.Join(d.Faults(), "\n")
			if (row.want == "") != (faults == "") || !strings.Contains(faults, row.want) {
				t.Errorf("found %q, want %q", faults, row.want)
			}
		})
	}
}

// recorder is a test whose failures are expected.
type recorder struct{ testing.TB }

func (*recorder) Cleanup(func()) {}

func TestAccount_IsFollowed(t *testing.T) {
	c, d := NewDouble(t)
	tgt := func(client string, end time.Time) Ticket {
		return Ticket{Client: client, ClientRealm: "CORP.EXAMPLE", Server: "krbtgt/CORP.EXAMPLE", ServerRealm: "CORP.EXAMPLE", End: end}
	}
	now := time.Now().Truncate(time.Second)
	a := must.OK(c.Account())(t)
	if a.Name != "svc" || a.Realm != "CORP.EXAMPLE" || a.Source != fromCredentials {
		t.Errorf("without tickets: %+v", a)
	}
	foreign := Ticket{Client: "other", ClientRealm: "X", Server: "krbtgt/X.EXAMPLE", ServerRealm: "CORP.EXAMPLE"}
	d.Hold("svc", foreign, tgt("alice", now))
	a = must.OK(c.Account())(t)
	if a.Name != "alice" || a.Source != fromTicket || a.Key() != "alice@CORP.EXAMPLE" {
		t.Errorf("%+v", a)
	}
	_, _, err := c.Initiate(t.Context(), Request{Target: target})
	must.Do(t, err)
	before := d.Counts().Acquired
	d.Hold("svc", tgt("alice", now.Add(time.Hour)))
	if again := must.OK(c.Account())(t); again != a || d.Counts().Acquired != before {
		t.Error("a new ticket of the same account is another account")
	}
	d.Hold("svc", tgt("bob", now.Add(time.Hour)))
	if other := must.OK(c.Account())(t); other.Key() == a.Key() {
		t.Errorf("%+v", other)
	}
	_, _, err = c.Initiate(t.Context(), Request{Target: target})
	must.Do(t, err)
	if n := d.Counts().Acquired; n != before+1 {
		t.Errorf("%d credentials handles for another account, %d before", n, before)
	}
}

// Where Windows tells no names, the ticket-granting ticket tells accounts apart.
func TestAccount_WithoutNames(t *testing.T) {
	c, d := NewDouble(t)
	d.Ex2 = false
	now := time.Now().Truncate(time.Second)
	tgt := Ticket{Server: "krbtgt/CORP.EXAMPLE", ServerRealm: "CORP.EXAMPLE", Start: now, End: now.Add(time.Hour)}
	d.Hold("", tgt)
	a := must.OK(c.Account())(t)
	if a.Name != "process" || a.Realm != "HOST" || a.Source != fromProcess {
		t.Errorf("%+v", a)
	}
	service := Ticket{Server: "HTTP/web.corp.example", ServerRealm: "CORP.EXAMPLE", Start: now, End: now.Add(time.Hour)}
	d.Hold("", tgt, service)
	if again := must.OK(c.Account())(t); again != a {
		t.Error("a ticket for a service is another account")
	}
	tgt.Start = tgt.Start.Add(time.Second)
	d.Hold("", tgt)
	if other := must.OK(c.Account())(t); other.Key() == a.Key() {
		t.Error("another ticket-granting ticket is not another account")
	}
}

func TestTickets(t *testing.T) {
	c, d := NewDouble(t)
	now := time.Now().Truncate(time.Second)
	want := []Ticket{
		{Client: "svc", ClientRealm: "CORP.EXAMPLE", Server: "krbtgt/CORP.EXAMPLE", ServerRealm: "CORP.EXAMPLE", Start: now, End: now.Add(time.Hour), RenewTill: now.Add(24 * time.Hour), EType: 18, SessionEType: 18, Flags: 0x40e10000},
		{Client: "svc", ClientRealm: "CORP.EXAMPLE", Server: "HTTP/web.corp.example", ServerRealm: "CORP.EXAMPLE", Start: now, End: now.Add(time.Hour), EType: 17, SessionEType: 18, Flags: 0x00040000},
		{Client: "svc", ClientRealm: "CORP.EXAMPLE", Server: "HTTP/WEB.corp.example", ServerRealm: "CORP.EXAMPLE", Start: now, End: now.Add(2 * time.Hour), EType: 23, SessionEType: 23},
	}
	d.Hold("svc", want...)
	if got := must.OK(c.Tickets())(t); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	if got, ok := c.Ticket("http/web.corp.example@CORP.EXAMPLE"); !ok || got != want[2] {
		t.Errorf("%+v", got)
	}
	if _, ok := c.Ticket("HTTP/web.corp.example@OTHER.EXAMPLE"); ok {
		t.Error("a ticket of another realm")
	}
	d.Ex2 = false
	for i, got := range must.OK(c.Tickets())(t) {
		basic := want[i]
		basic.Client, basic.ClientRealm, basic.SessionEType = "", "", 0
		if got != basic {
			t.Errorf("without names: %+v", got)
		}
	}
	if all := must.OK(c.Packages())(t); len(all) != 2 || all[0].Name != "Kerberos" || all[0].MaxToken != doubleToken {
		t.Errorf("packages %+v", all)
	}
}

func TestPurge_OnlyTheNamedService(t *testing.T) {
	c, d := NewDouble(t)
	tgt := Ticket{Server: "krbtgt/CORP.EXAMPLE", ServerRealm: "CORP.EXAMPLE"}
	other := Ticket{Server: "HTTP/other.corp.example", ServerRealm: "CORP.EXAMPLE"}
	d.Hold("svc", tgt, Ticket{Server: "HTTP/web.corp.example", ServerRealm: "CORP.EXAMPLE"}, other)
	if n := must.OK(c.Purge(target))(t); n != 1 || !slices.Equal(d.Tickets, []Ticket{tgt, other}) {
		t.Errorf("%d purged, left %+v", n, d.Tickets)
	}
	if n := must.OK(c.Purge(target))(t); n != 0 {
		t.Errorf("%d purged of none", n)
	}
	d.Hold("svc", Ticket{Server: "HTTP/web.corp.example", ServerRealm: "CORP.EXAMPLE"})
	d.PurgeStatus = STATUS_NOT_IMPLEMENTED
	if _, err := c.Purge(target); err == nil {
		t.Error("no error where tickets cannot be purged")
	}
}

func TestOpen(t *testing.T) {
	if _, err := Open(); (runtime.GOOS == "windows") != (err == nil) || err != nil && !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}
