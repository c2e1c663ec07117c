package adminapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// ready asks whether all identities are ready.
func (l *lab) ready() (int, ReadyView) {
	l.t.Helper()
	w, err := l.request(http.MethodGet, "/kerberos/ready")
	if err != nil {
		l.t.Fatal(err)
	}
	var v ReadyView
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || v.Ready != (w.Code == http.StatusOK) || v.Ready != (len(v.Reasons) == 0) {
		l.t.Fatalf("%d, %v: %s", w.Code, err, w.Body)
	}
	return w.Code, v
}

// Who has never asked for a ticket is ready; who has a ticket is, until it ends.
func TestReady_ByTicket(t *testing.T) {
	l := newLab(t)
	if status, v := l.ready(); status != http.StatusOK {
		t.Errorf("before any login: %+v", v)
	}
	if l.kdc.Counts().ASRep != 0 {
		t.Error("an identity that never asked for a ticket was logged in")
	}
	if err := l.grant(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if status, v := l.ready(); status != http.StatusOK {
		t.Errorf("with a ticket: %+v", v)
	}
	end := get[IdentitiesView](l, http.MethodGet, "/kerberos/identities").Identities[0].TGT.EndTime
	l.now = func() time.Time { return end.Add(time.Second) }
	if status, v := l.ready(); status != http.StatusServiceUnavailable || v.Reasons[0].Identity != "again" || !strings.Contains(v.Reasons[0].Reason, "has ended") {
		t.Errorf("%d: an ended ticket counts: %+v", status, v)
	}
}

// A login at start that no KDC has answered yet counts as asked for.
func TestReady_DuringTheFirstLogin(t *testing.T) {
	l := newLab(t)
	l.kdc.Use(kdctest.Silent())
	l.ref.LoginAtStart(t.Context())
	if status, v := l.ready(); status != http.StatusServiceUnavailable || !strings.Contains(v.Reasons[0].Reason, "under way") {
		t.Errorf("%d: %+v", status, v)
	}
}

// The reason is the KDC's. Asking logs in again, so that an instance which gets no requests
// becomes ready; not while the breaker is open.
func TestReady_AfterARefusal(t *testing.T) {
	l := newLab(t)
	l.account.Set(kdctest.With(kdctest.Locked))
	if err := l.grant(t.Context(), ""); err == nil {
		t.Fatal("a locked account logged in")
	}
	asked := l.kdc.Counts()
	for range 3 {
		status, v := l.ready()
		if status != http.StatusServiceUnavailable || !strings.Contains(v.Reasons[0].Reason, "KDC_ERR_CLIENT_REVOKED") || !strings.Contains(v.Reasons[0].Remedy, "Unlock-ADAccount") {
			t.Fatalf("%d: %+v", status, v)
		}
	}
	if got := l.kdc.Counts(); got.UDP != asked.UDP || got.TCP != asked.TCP {
		t.Errorf("the KDC was asked while the breaker is open: %+v, before %+v", got, asked)
	}
	l.account.Set(kdctest.Without(kdctest.Locked))
	get[FlushView](l, http.MethodPost, "/kerberos/flush")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for status := 0; status != http.StatusOK; status, _ = l.ready() {
		select {
		case <-ctx.Done():
			t.Fatal("gave up waiting until asking has logged in again")
		case <-time.After(10 * time.Millisecond):
		}
	}
	if v := get[IdentitiesView](l, http.MethodGet, "/kerberos/identities").Identities[0]; len(v.Failures) != 0 {
		t.Errorf("failures that have passed are shown: %+v", v.Failures)
	}
}
