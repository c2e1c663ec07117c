package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/internal/identitypool"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

const service = "HTTP/web.corp.example"

// lab is a realm, and a pool with an identity under two names.
type lab struct {
	t       *testing.T
	pool    *identitypool.Pool
	kdc     *kdctest.KDC
	account *kdctest.Principal
	keytab  string
	ref     *identitypool.Ref
	now     func() time.Time
}

func newLab(t *testing.T) *lab {
	t.Helper()
	realm := kdctest.NewRealm("CORP.EXAMPLE")
	l := &lab{t: t, pool: identitypool.New(), now: time.Now, keytab: filepath.Join(t.TempDir(), "keytab")}
	l.account = realm.AddUser("svc-proxy", "a password", kdctest.SPN("HTTP/proxy.corp.example"), kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo(service))
	realm.AddUser("alice", "x")
	realm.AddService(service)
	l.kdc = kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{realm}})
	if err := l.kdc.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.kdc.Stop)
	keys, err := realm.Keytab(l.account)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.keytab, keys, 0o600); err != nil {
		t.Fatal(err)
	}
	env, err := config.NewEnv(nil, "", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"intranet", "again"} {
		resolved, err := (&config.Credentials{User: "svc-proxy@CORP.EXAMPLE", Keytab: l.keytab, KDC: []string{l.kdc.Addr()}}).Resolve(env)
		if err != nil {
			t.Fatal(err)
		}
		if l.ref, err = l.pool.Open(resolved, name, zap.NewNop()); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// grant gets a ticket for the service; user may be empty.
func (l *lab) grant(ctx context.Context, user string) error {
	l.t.Helper()
	return l.grantFor(ctx, service, user)
}

func (l *lab) grantFor(ctx context.Context, service, user string) error {
	l.t.Helper()
	spn, err := negotiate.ParseSPN(service)
	if err != nil {
		l.t.Fatal(err)
	}
	target := negotiate.Target{SPN: spn}
	if user != "" {
		if target.User, err = negotiate.ParseUser(user, krb5core.UserForm{Default: "CORP.EXAMPLE"}); err != nil {
			l.t.Fatal(err)
		}
	}
	_, err = l.ref.Initiator().Grant(ctx, &target, negotiate.DelegateNever)
	return err
}

// request calls a route.
func (l *lab) request(method, target string) (*httptest.ResponseRecorder, error) {
	l.t.Helper()
	r := httptest.NewRequest(method, target, nil)
	w := httptest.NewRecorder()
	for _, e := range Endpoints() {
		if e.Path == r.URL.Path {
			return w, api{l.pool, l.now}.handler(e).ServeHTTP(w, r)
		}
	}
	l.t.Fatalf("no route %s", target)
	return nil, nil
}

func get[T any](l *lab, method, target string) (v T) {
	l.t.Helper()
	w, err := l.request(method, target)
	if err != nil {
		l.t.Fatalf("%s %s: %v", method, target, err)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
		l.t.Fatalf("%v, %v, %s", err, w.Header(), w.Body)
	}
	return v
}

func TestIdentities(t *testing.T) {
	l := newLab(t)
	answer := get[IdentitiesView](l, http.MethodGet, "/kerberos/identities")
	identities := answer.Identities
	if answer.Version == "" {
		t.Error("without the plugin's version")
	}
	if len(identities) != 1 || identities[0].Name != "again" || !slices.Equal(identities[0].Names, []string{"again", "intranet"}) {
		t.Fatalf("two names of one account: %+v", identities)
	}
	if v := identities[0]; v.TGT != nil || len(v.KDCs) != 1 || v.KDCs[0].State != StateUnasked {
		t.Errorf("before the first login: %+v", v)
	}
	if err := errors.Join(l.grant(t.Context(), ""), l.grant(t.Context(), "alice")); err != nil {
		t.Fatal(err)
	}
	v := get[IdentitiesView](l, http.MethodGet, "/kerberos/identities").Identities[0]
	if v.Principal != "svc-proxy@CORP.EXAMPLE" || v.Realm != "CORP.EXAMPLE" || v.Kind != negotiate.KindKeytab || v.Path != l.keytab {
		t.Errorf("got %+v", v)
	}
	if want := []KeyView{{1, "aes256-cts-hmac-sha1-96"}, {1, "aes128-cts-hmac-sha1-96"}}; !slices.Equal(v.Keys, want) {
		t.Errorf("keys %v, want %v", v.Keys, want)
	}
	if v.TGT == nil || v.TGT.EndTime.Before(v.TGT.StartTime) || v.Breaker.Open || v.Tickets != 4 {
		t.Errorf("got %+v", v)
	}
	if len(v.KDCs) != 1 || v.KDCs[0].State != StateAlive || v.KDCs[0].KDC != l.kdc.Addr() {
		t.Errorf("KDCs %+v", v.KDCs)
	}
	if offset, ok := v.ClockOffsets["CORP.EXAMPLE"]; !ok || offset != 0 {
		t.Errorf("offsets %v", v.ClockOffsets)
	}
}

func TestTickets(t *testing.T) {
	l := newLab(t)
	if err := errors.Join(l.grant(t.Context(), ""), l.grant(t.Context(), ""), l.grant(t.Context(), "alice")); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]int{
		"": 4, "identity=intranet": 4, "identity=svc-proxy@CORP.EXAMPLE": 4, "spn=http/WEB.corp.example": 2, "user=alice": 2,
		"user=ALICE@CORP.EXAMPLE&spn=" + url.QueryEscape(service): 1, "user=bob": 0,
	} {
		if got := get[[]TicketView](l, http.MethodGet, "/kerberos/tickets?"+query); len(got) != want {
			t.Errorf("%s: %d tickets, want %d: %+v", query, len(got), want, got)
		}
	}
	own := get[[]TicketView](l, http.MethodGet, "/kerberos/tickets?spn="+url.QueryEscape(service))[0]
	if own.Service != service+"@CORP.EXAMPLE" || own.Client != "svc-proxy@CORP.EXAMPLE" || own.SessionEType != "aes256-cts-hmac-sha1-96" ||
		own.TicketEType != "aes256-cts-hmac-sha1-96" || own.KVNO != 1 || own.Uses == 0 || own.Bytes == 0 || own.Flags == "" {
		t.Errorf("got %+v", own)
	}
}

func TestFlush(t *testing.T) {
	l := newLab(t)
	if err := errors.Join(l.grant(t.Context(), ""), l.grant(t.Context(), "alice")); err != nil {
		t.Fatal(err)
	}
	if got := get[FlushView](l, http.MethodPost, "/kerberos/flush?user=alice"); got.Tickets != 2 {
		t.Errorf("flushed %+v", got)
	}
	if got := get[FlushView](l, http.MethodPost, "/kerberos/flush"); got.Tickets != 2 || got.Identities != 1 {
		t.Errorf("flushed %+v", got)
	}
	logins := l.kdc.Counts().ASRep
	if err := l.grant(t.Context(), ""); err != nil || l.kdc.Counts().ASRep != logins+1 {
		t.Errorf("%v, %d logins after a flush", err, l.kdc.Counts().ASRep-logins)
	}
}

func TestBreaker(t *testing.T) {
	l := newLab(t)
	l.account.Set(kdctest.With(kdctest.Locked))
	if err := l.grant(t.Context(), ""); err == nil {
		t.Fatal("a locked account logged in")
	}
	v := get[IdentitiesView](l, http.MethodGet, "/kerberos/identities").Identities[0]
	if !v.Breaker.Open || v.Breaker.Until == nil || !strings.Contains(v.Breaker.Reason, "KDC_ERR_CLIENT_REVOKED") || !strings.Contains(v.Breaker.Remedy, "Unlock-ADAccount") {
		t.Errorf("breaker %+v", v.Breaker)
	}
	l.account.Set(kdctest.Without(kdctest.Locked))
	if got := get[FlushView](l, http.MethodPost, "/kerberos/flush"); got.Breakers != 1 || got.Tickets != 0 {
		t.Errorf("flushed %+v", got)
	}
	if err := l.grant(t.Context(), ""); err != nil {
		t.Errorf("after the flush: %v", err)
	}
}

func TestBadRequests(t *testing.T) {
	l := newLab(t)
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{http.MethodPost, "/kerberos/identities", http.StatusMethodNotAllowed},
		{http.MethodGet, "/kerberos/flush", http.StatusMethodNotAllowed},
		{http.MethodDelete, "/kerberos/tickets", http.StatusMethodNotAllowed},
		{http.MethodGet, "/kerberos/tickets?identity=unknown", http.StatusNotFound},
		{http.MethodPost, "/kerberos/flush?identty=intranet", http.StatusBadRequest},
		{http.MethodPost, "/kerberos/flush?user=a&user=b", http.StatusBadRequest},
		{http.MethodGet, "/kerberos/ready?spn=HTTP/web", http.StatusBadRequest},
		{http.MethodGet, "/kerberos/identities?identity=unknown", http.StatusNotFound},
		{http.MethodGet, "/kerberos/ready?identity=unknown", http.StatusNotFound},
		{http.MethodPost, "/kerberos/", http.StatusMethodNotAllowed},
		{http.MethodGet, "/kerberos/?refresh=1", http.StatusBadRequest},
	} {
		w, err := l.request(tc.method, tc.path)
		if refused, ok := errors.AsType[caddy.APIError](err); !ok || refused.HTTPStatus != tc.status || (tc.status == http.StatusMethodNotAllowed) != (w.Header().Get("Allow") != "") {
			t.Errorf("%s %s: %v, want %d", tc.method, tc.path, err, tc.status)
		}
	}
}

// The JSON names are part of the interface.
func TestViews_JSONNames(t *testing.T) {
	l := newLab(t)
	if err := l.grant(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	identities := get[map[string]any](l, http.MethodGet, "/kerberos/identities")
	for got, want := range map[*map[string]any]string{
		&identities: "identities version",
		new(identities["identities"].([]any)[0].(map[string]any)):         "breaker clock_offset_seconds failures kdcs keys kind name names path principal ready realm secret_changed tgt tickets",
		&get[[]map[string]any](l, http.MethodGet, "/kerberos/tickets")[0]: "auth_time bytes client end_time flags identity kvno service session_etype spn start_time ticket_etype uses",
		new(get[map[string]any](l, http.MethodGet, "/kerberos/ready")):    "ready reasons",
	} {
		names := slices.DeleteFunc(slices.Sorted(maps.Keys(*got)), func(name string) bool { return name == "commit" })
		if strings.Join(names, " ") != want {
			t.Errorf("got %s, want %s", names, want)
		}
	}
	info, err := os.Stat(l.keytab)
	if err != nil {
		t.Fatal(err)
	}
	if v := get[IdentitiesView](l, http.MethodGet, "/kerberos/identities").Identities[0]; !v.SecretChanged.Equal(info.ModTime()) || v.SecretDue != nil {
		t.Errorf("the secret was changed %s, and is to be changed %s", v.SecretChanged, v.SecretDue)
	}
	if routes := (Admin{}).Routes(); len(routes) != len(Endpoints()) {
		t.Errorf("%d routes", len(routes))
	}
}
