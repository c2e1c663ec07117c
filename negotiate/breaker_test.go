package negotiate_test

import (
	"errors"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// fails logs in, which must fail, and returns the proofs of the key that this took.
func (w *world) fails(s *negotiate.Settings) (proofs int, err error) {
	w.T.Helper()
	before := w.KDC.Counts().ASReqPreAuth
	if _, err = w.id.Initiator(s).Login(w.T.Context()); err == nil {
		w.T.Fatal("logged in")
	}
	return w.KDC.Counts().ASReqPreAuth - before, err
}

// Whatever the KDC answers to a proof counts, because it may be forged.
func TestBreaker_EveryProofCounts(t *testing.T) {
	for _, code := range []messages.ErrorCode{messages.KDC_ERR_PREAUTH_REQUIRED, messages.KRB_ERR_GENERIC, messages.KDC_ERR_KEY_EXPIRED} {
		t.Run(code.String(), func(t *testing.T) {
			w := newWorld(t, byPassword("right"))
			w.KDC.Use(kdctest.PreAuthenticated(kdctest.Fail(code)))
			all := 0
			for range 29 {
				n, _ := w.fails(w.settings)
				all += n
				w.Clock.Advance(time.Minute)
			}
			if all != 3 {
				t.Errorf("%d proofs in half an hour", all)
			}
			if w.id.Refused() == nil {
				t.Error("the breaker is closed")
			}
			w.KDC.ClearFaults()
			w.Clock.Advance(2 * time.Minute)
			must.OK(w.initiator.Login(t.Context()))(t)
		})
	}
}

// Logins that succeed leave nothing behind, however many proofs each takes.
func TestBreaker_SuccessForgets(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	for range 4 {
		w.KDC.Use(kdctest.PreAuthenticated(kdctest.Times(2, kdctest.Fail(messages.KRB_ERR_GENERIC))))
		if n, _ := w.fails(w.settings); n != 2 { // over UDP, and over TCP
			t.Fatalf("%d proofs", n)
		}
		w.KDC.ClearFaults()
		w.Clock.Advance(time.Minute)
		must.OK(w.initiator.Login(t.Context()))(t)
		w.id.FlushTickets(func(cache.Key) bool { return true }) // a flush would forget the proofs too
	}
}

// An outage costs one proof, and the identity logs in when it is over.
func TestBreaker_Outage(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	must.OK(w.initiator.Login(t.Context()))(t)
	w.Clock.Advance(11 * time.Hour)
	patient := w.Settings(kdc.Config{}, 50*time.Millisecond)
	w.KDC.Use(kdctest.PreAuthenticated(kdctest.Silent())) // the hint leads to a proof at once
	all, _ := w.fails(patient)
	w.KDC.ClearFaults()
	w.KDC.Use(kdctest.Silent())
	for range 20 {
		w.Clock.Advance(time.Minute)
		n, _ := w.fails(patient)
		all += n
	}
	if all != 1 || w.id.Refused() != nil {
		t.Errorf("%d proofs in an outage, breaker %v", all, w.id.Refused())
	}
	w.KDC.ClearFaults()
	w.Clock.Advance(time.Minute)
	must.OK(w.initiator.Login(t.Context()))(t)
}

// A KDC that answers everything but proofs gets three, then one a minute, and is said to be silent.
func TestBreaker_UnansweredProofs(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	w.KDC.Use(kdctest.PreAuthenticated(kdctest.Silent()))
	impatient := w.Settings(kdc.Config{}, 50*time.Millisecond)
	all := 0
	for range 5 * 4 { // five minutes
		n, err := w.fails(impatient)
		if _, ok := errors.AsType[*kdc.UnreachableError](err); !ok {
			t.Fatalf("got %v", err)
		}
		all += n
		w.Clock.Advance(15 * time.Second)
	}
	if all < 3+3 || all > 3+5 {
		t.Errorf("%d proofs in five minutes", all)
	}
	w.KDC.ClearFaults()
	w.Clock.Advance(time.Minute)
	must.OK(w.initiator.Login(t.Context()))(t)
	must.OK(w.initiator.Grant(t.Context(), &w.target, negotiate.DelegateNever))(t)
}
