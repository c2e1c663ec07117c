//go:build !386

package sspi_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/internal/sspi"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
	"github.com/caddy-negotiate/caddy-negotiate/tests/identitytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

const password = "right"

// windows is a machine of a domain: the double gets tickets from the domain's KDC, and keeps them
// as Windows does.
type windows struct {
	*identitytest.Domain
	double   *sspi.Double
	id       *negotiate.Identity
	settings *negotiate.Settings
	acceptor *kdctest.Acceptor
	accounts map[string]*krb5core.Account
	held     map[string]*messages.Credential // by account and target
	fetched  int
	clock    *gss.Clock
}

func newWindows(t *testing.T) *windows {
	t.Helper()
	w := &windows{
		Domain:   identitytest.New(t, identitytest.Config{Password: password}),
		accounts: make(map[string]*krb5core.Account), held: make(map[string]*messages.Credential),
	}
	w.Domain.Realm.AddUser("bob", password)
	w.settings = w.Settings(kdc.Config{}, 5*time.Second)
	w.clock = must.OK(gss.NewClock(gss.ClockConfig{Now: w.Clock.Now}))(t)
	for _, name := range []string{identitytest.Account, "bob"} {
		p := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, name), Realm: identitytest.Realm}
		keys := krb5core.PasswordKeys(func() (string, error) { return password, nil })
		w.accounts[name] = krb5core.NewAccount(p, keys, krb5core.NewClock(w.Clock.Now))
	}
	client, double := sspi.NewDouble(t)
	w.double = double
	double.Initiate = w.initiate
	w.logOn(identitytest.Account)
	w.id = w.Identity(negotiate.PlatformSecret(client))
	keys := must.OK(w.Domain.Realm.Keytab(w.Web))(t)
	w.acceptor = must.OK(kdctest.NewAcceptor(kdctest.AcceptorConfig{Keytab: keys, Now: w.Clock.Now}))(t)
	return w
}

// logOn has the process run as another account.
func (w *windows) logOn(account string) {
	w.double.Hold(account, sspi.Ticket{
		Client: account, ClientRealm: identitytest.Realm, Server: "krbtgt/" + identitytest.Realm, ServerRealm: identitytest.Realm,
		Start: w.Clock.Now(), End: w.Clock.Now().Add(10 * time.Hour), EType: 18, SessionEType: 18,
	})
}

// initiate is the double's: it runs while the double is locked.
func (w *windows) initiate(target string, flags uint32, bindings *gss.ChannelBindings) ([]byte, func([]byte) sspi.Status, sspi.Status) {
	cred, err := w.ticket(target)
	if err != nil {
		if code, _ := krb5core.Code(err); code == messages.KDC_ERR_S_PRINCIPAL_UNKNOWN {
			return nil, nil, sspi.SEC_E_TARGET_UNKNOWN
		}
		return nil, nil, sspi.SEC_E_NO_AUTHENTICATING_AUTHORITY
	}
	cfg := gss.TemplateConfig{Flags: gss.GSS_C_INTEG_FLAG, Bindings: bindings != nil, Clock: w.clock}
	status := sspi.SEC_E_OK
	if flags&2 != 0 {
		cfg.Flags |= gss.GSS_C_MUTUAL_FLAG
		status = sspi.SEC_I_CONTINUE_NEEDED
	}
	header, sent, err := must.OK(gss.NewTemplate(cred, cfg))(w.T).Header(w.T.Context(), bindings)
	must.Do(w.T, err)
	token := must.OK(base64.StdEncoding.DecodeString(strings.TrimPrefix(header, "Negotiate ")))(w.T)
	return token, func(answer []byte) sspi.Status {
		if sent.VerifyToken(answer) != nil {
			return sspi.SEC_E_MESSAGE_ALTERED
		}
		return sspi.SEC_E_OK
	}, status
}

// ticket returns the one that is held, or a new one.
func (w *windows) ticket(target string) (*messages.Credential, error) {
	d := w.double
	key := d.Client + " " + target
	isHeld := slices.ContainsFunc(d.Tickets, func(t sspi.Ticket) bool { return t.Server == target })
	if cred := w.held[key]; isHeld && cred != nil {
		return cred, nil
	}
	ctx, account := context.Background(), w.accounts[d.Client]
	tgt, err := w.settings.Client.Login(ctx, account, nil)
	if err != nil {
		return nil, err
	}
	cred, err := w.settings.Client.ServiceTicket(ctx, account, tgt, must.OK(messages.ParsePrincipal(target, identitytest.Realm))(w.T))
	if err != nil {
		return nil, err
	}
	w.fetched++
	w.held[key] = cred
	d.Tickets = append(d.Tickets, sspi.Ticket{
		Client: d.Client, ClientRealm: identitytest.Realm, Server: target, ServerRealm: identitytest.Realm,
		Start: cred.Start(), End: cred.EndTime, EType: 18, SessionEType: int32(cred.Key.EType()), Flags: uint32(cred.Flags),
	})
	return cred, nil
}

// run runs one attempt to its end, as Caddy does.
func (w *windows) run(cfg negotiate.AttemptConfig, bindings *httpauth.Binding) (*httptest.ResponseRecorder, negotiate.Judgement, error) {
	w.T.Helper()
	cfg.Initiator = w.id.Initiator(w.settings)
	a := &negotiate.Attempt{Config: &cfg, Target: *identitytest.Target(w.T, identitytest.Service), Body: httpauth.NewReplay(nil, 0, 0)}
	defer a.Settle()
	if err := a.Acquire(w.T.Context()); err != nil {
		return nil, negotiate.Judgement{}, err
	}
	for {
		token, err := a.Mint(w.T.Context(), bindings)
		if err != nil {
			return nil, negotiate.Judgement{}, err
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", token)
		answer := httptest.NewRecorder()
		w.acceptor.Protect(http.HandlerFunc(kdctest.WhoHandler)).ServeHTTP(answer, r)
		j := a.Judge(w.T.Context(), answer.Code, answer.Header())
		if j.Decision != negotiate.Repeat {
			return answer, j, nil
		}
	}
}

func (w *windows) wantUser(name string) {
	w.T.Helper()
	answer, j, err := w.run(negotiate.AttemptConfig{MutualAuth: negotiate.MutualAuthRequired}, nil)
	if err != nil || answer.Code != http.StatusOK || !j.Proven || strings.TrimSpace(answer.Body.String()) != name+"@"+identitytest.Realm {
		w.T.Fatalf("%v, %+v, %v", answer, j, err)
	}
}

func TestPlatform_TokensAreAccepted(t *testing.T) {
	w := newWindows(t)
	for _, cfg := range []negotiate.AttemptConfig{
		{}, {Raw: true}, {MutualAuth: negotiate.MutualAuthOn}, {MutualAuth: negotiate.MutualAuthRequired}, {MutualAuth: negotiate.MutualAuthRequired, Raw: true},
	} {
		for range 3 {
			answer, j, err := w.run(cfg, nil)
			if err != nil || answer.Code != http.StatusOK || j.Proven != (cfg.MutualAuth != negotiate.MutualAuthOff) {
				t.Fatalf("%+v: %v, %+v, %v", cfg, answer, j, err)
			}
		}
	}
	if w.fetched != 1 {
		t.Errorf("%d tickets for one service", w.fetched)
	}
	if n := w.double.Counts(); n.Begun != n.Deleted || n.Acquired != 1 {
		t.Errorf("%+v", n)
	}
	items := w.Tickets.Snapshot(nil)
	if len(items) != 1 || !items[0].Value.Platform() || items[0].Value.EType() == 0 || items[0].Value.Credential().Client.String() != w.Principal().String() {
		t.Errorf("tickets %+v", items)
	}
	if _, err := items[0].Value.Marshal(); err == nil {
		t.Error("a ticket of Windows can be stored")
	}
}

// The bytes that Windows hashes give what tokens of our own have for the same certificate.
func TestPlatform_ChannelBindings(t *testing.T) {
	w := newWindows(t)
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	binding := must.OK(httpauth.CertificateBinding(server.Certificate()))(t)
	w.double.Bindings = "" // the ticket is got without
	w.wantUser(identitytest.Account)
	w.double.Bindings = binding.Data
	var sent *gss.ChannelBindings
	w.double.Initiate = func(target string, flags uint32, bindings *gss.ChannelBindings) ([]byte, func([]byte) sspi.Status, sspi.Status) {
		sent = bindings
		return w.initiate(target, flags, bindings)
	}
	if answer, j, err := w.run(negotiate.AttemptConfig{MutualAuth: negotiate.MutualAuthRequired}, &binding); err != nil || answer.Code != http.StatusOK || !j.Proven {
		t.Fatalf("%v, %+v, %v", answer, j, err)
	}
	own := must.OK(gss.TLSServerEndPointBindings(must.OK(gss.EndPointHash(must.OK(x509.ParseCertificate(server.Certificate().Raw))(t)))(t)))(t)
	if sent == nil || *sent != own {
		t.Errorf("Windows hashes %x, tokens of our own have %x", sent, own)
	}
}

func TestPlatform_RefusedTicketIsPurged(t *testing.T) {
	w := newWindows(t)
	w.wantUser(identitytest.Account)
	w.Web.ChangeKey(false) // the service has another key
	must.Do(t, w.acceptor.Update(func(c *kdctest.AcceptorConfig) { c.Keytab = must.OK(w.Domain.Realm.Keytab(w.Web))(t) }))
	w.wantUser(identitytest.Account)
	if n := w.double.Counts(); n.Purged != 1 || w.fetched != 2 {
		t.Errorf("%d purged, %d fetched", n.Purged, w.fetched)
	}

	// Any client can provoke refusals.
	must.Do(t, w.acceptor.Update(func(c *kdctest.AcceptorConfig) { c.Refuse = kdctest.RefuseGood }))
	for range 20 {
		if answer, _, err := w.run(negotiate.AttemptConfig{}, nil); err != nil || answer.Code != http.StatusUnauthorized {
			t.Fatalf("%v, %v", answer, err)
		}
	}
	if n := w.double.Counts(); n.Purged > 4 {
		t.Errorf("%d purged for 20 refusals", n.Purged)
	}

	// Wine cannot.
	w.Clock.Advance(time.Hour)
	w.double.PurgeStatus = sspi.STATUS_NOT_IMPLEMENTED
	if answer, _, err := w.run(negotiate.AttemptConfig{}, nil); err != nil || answer.Code != http.StatusUnauthorized {
		t.Fatalf("%v, %v", answer, err)
	}
	if len(identitytest.Seen[negotiate.PurgeFailed](w.Events)) == 0 {
		t.Error("not reported")
	}
}

func TestPlatform_AuthorizationIsNoReasonToPurge(t *testing.T) {
	w := newWindows(t)
	must.Do(t, w.acceptor.Update(func(c *kdctest.AcceptorConfig) { c.Refuse = kdctest.RefuseGoodWithAPRep }))
	answer, j, err := w.run(negotiate.AttemptConfig{MutualAuth: negotiate.MutualAuthOn}, nil)
	if err != nil || answer.Code != http.StatusUnauthorized || !j.Proven || w.double.Counts().Purged != 0 {
		t.Errorf("%v, %+v, %v, %+v", answer, j, err, w.double.Counts())
	}
}

func TestPlatform_WrongProof(t *testing.T) {
	w := newWindows(t)
	w.double.NotMutual = true
	_, j, err := w.run(negotiate.AttemptConfig{MutualAuth: negotiate.MutualAuthOn}, nil)
	if err != nil || j.Decision != negotiate.Reject || !errors.Is(j.Err, negotiate.ErrMutualAuth) {
		t.Errorf("%+v, %v", j, err)
	}
}

func TestPlatform_Flush(t *testing.T) {
	w := newWindows(t)
	w.wantUser(identitytest.Account)
	if n := w.id.FlushTickets(func(k cache.Key) bool { return k.SPN == "HTTP/other" }); n != 0 || w.double.Counts().Purged != 0 {
		t.Errorf("%d flushed of another service, %+v", n, w.double.Counts())
	}
	if n := w.id.Flush(); n != 1 || w.double.Counts().Purged != 1 {
		t.Errorf("%d flushed, %+v", n, w.double.Counts())
	}
	w.wantUser(identitytest.Account)
}

func TestPlatform_AnotherAccountIsFollowed(t *testing.T) {
	w := newWindows(t)
	w.wantUser(identitytest.Account)
	before := w.Tickets.Snapshot(nil)[0].Value.Client()
	w.logOn("bob")
	w.Clock.Advance(10 * time.Second)
	w.wantUser("bob")
	items := w.Tickets.Snapshot(nil)
	if len(items) != 1 || items[0].Value.Client() == before || w.id.Principal().String() != "bob@"+identitytest.Realm {
		t.Errorf("tickets %v, principal %s", items, w.id.Principal())
	}
}

func TestPlatform_Failures(t *testing.T) {
	w := newWindows(t)
	w.double.Acquire = sspi.SEC_E_NO_CREDENTIALS
	for range 5 {
		_, _, err := w.run(negotiate.AttemptConfig{}, nil)
		failed, ok := errors.AsType[*sspi.Error](err)
		if !ok || !failed.Status.Missing() || !negotiate.Remembered(err) || negotiate.RetryAfter(err, w.Clock.Now()) < time.Second {
			t.Fatalf("%v", err)
		}
	}
	if n := len(identitytest.Seen[negotiate.TicketFailed](w.Events)); n != 1 {
		t.Errorf("reported %d times", n)
	}
	w.double.Acquire = sspi.SEC_E_OK
	w.Clock.Advance(11 * time.Second)
	w.wantUser(identitytest.Account)

	// The ticket is gone, and no domain controller answers: that is remembered.
	calls := 0
	w.double.Initiate = func(string, uint32, *gss.ChannelBindings) ([]byte, func([]byte) sspi.Status, sspi.Status) {
		calls++
		return nil, nil, sspi.SEC_E_NO_AUTHENTICATING_AUTHORITY
	}
	for range 5 {
		if _, _, err := w.run(negotiate.AttemptConfig{}, nil); err == nil {
			t.Fatal("no error")
		}
	}
	if calls != 2 {
		t.Errorf("Windows was asked %d times", calls)
	}

	// A token of another mechanism never leaves.
	w.Clock.Advance(time.Minute)
	w.double.Initiate = func(string, uint32, *gss.ChannelBindings) ([]byte, func([]byte) sspi.Status, sspi.Status) {
		return []byte("NTLMSSP\x00\x01\x00\x00\x00"), nil, sspi.SEC_I_CONTINUE_NEEDED
	}
	if _, _, err := w.run(negotiate.AttemptConfig{MutualAuth: negotiate.MutualAuthOn}, nil); !errors.Is(err, gss.ErrOtherMechanism) {
		t.Errorf("NTLM: %v", err)
	}
	if n := w.double.Counts(); n.Begun != n.Deleted {
		t.Errorf("%+v", n)
	}
}

// Services that clients invent are asked for at a bounded rate.
func TestPlatform_UnknownServices(t *testing.T) {
	w := newWindows(t)
	asked := 0
	w.double.Initiate = func(string, uint32, *gss.ChannelBindings) ([]byte, func([]byte) sspi.Status, sspi.Status) {
		asked++
		return nil, nil, sspi.SEC_E_TARGET_UNKNOWN
	}
	throttled := 0
	for i := range 200 {
		target := identitytest.Target(t, "HTTP/"+strings.Repeat("x", i+1)+".corp.example")
		target.ByClient = true
		_, err := w.id.Initiator(w.settings).Grant(t.Context(), target, negotiate.DelegateNever)
		if _, ok := errors.AsType[*negotiate.ThrottledError](err); ok {
			throttled++
		}
	}
	if asked != 50 || throttled != 150 {
		t.Errorf("%d asked, %d throttled", asked, throttled)
	}
}

func TestPlatform_Delegation(t *testing.T) {
	w := newWindows(t)
	var flags []uint32
	w.double.Initiate = func(target string, f uint32, bindings *gss.ChannelBindings) ([]byte, func([]byte) sspi.Status, sspi.Status) {
		flags = append(flags, f&1)
		return w.initiate(target, f, bindings)
	}
	run := func(d negotiate.Delegation) []uint32 {
		t.Helper()
		flags = nil
		w.id.Flush()
		if answer, _, err := w.run(negotiate.AttemptConfig{Delegation: d}, nil); err != nil || answer.Code != http.StatusOK {
			t.Fatalf("%v, %v", answer, err)
		}
		return flags
	}
	if got := run(negotiate.DelegateMarked); slices.Contains(got, 1) {
		t.Errorf("%v: delegated to a service that is not marked", got)
	}
	w.Web.Set(kdctest.With(kdctest.OKAsDelegate))
	if got := run(negotiate.DelegateMarked); !slices.Equal(got, []uint32{0, 1}) {
		t.Errorf("%v: not delegated to a marked service", got)
	}
	if got := run(negotiate.DelegateNever); slices.Contains(got, 1) {
		t.Errorf("%v: delegated unasked", got)
	}
}
