package exchange

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// runUDP runs a machine against a KDC that speaks UDP only.
func runUDP(t *testing.T, a *AS, answer kdc) ([]*Request, error) {
	t.Helper()
	req, err := a.StepUDP(nil)
	var requests []*Request
	for n := 0; err == nil && req != nil; n++ {
		if n > 40 {
			t.Fatal("the machine does not end")
		}
		requests = append(requests, req)
		req, err = a.StepUDP(answer(n, req))
	}
	return requests, err
}

func iterated(salt string, iterations uint32) messages.ETypeInfo2Entry {
	e := entry(aes256, salt)
	e.S2KParams = binary.BigEndian.AppendUint32(nil, iterations)
	return e
}

func upnAlice(c *ASConfig) {
	c.Client = messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, "alice@krb5.example"), Realm: realm}
	c.Configured = anyRealm
}

// What a datagram claims is asked again over TCP before a key is made, and the rest stays there.
func TestAS_DatagramConfirmed(t *testing.T) {
	requiring := func(e messages.ETypeInfo2Entry) kdc {
		return func(_ int, r *Request) []byte { return preAuthRequired(t, r.Message, e) }
	}
	hint := &PreAuthHint{EType: aes256, Salt: "last", HasSalt: true}
	afterHint := func(c *ASConfig) { c.Hint, c.AskFirst = hint, true }
	afterMany := func(c *ASConfig) {
		c.Hint, c.AskFirst = &PreAuthHint{EType: aes256, Salt: salt, HasSalt: true, Params: iterated("", 40_000).S2KParams}, true
	}
	keytab := func(c *ASConfig) { c.Keys = heldKeys{{aes256, 0}: newKey(t, aes256)} }
	for name, c := range map[string]struct {
		change    func(*ASConfig)
		answer    kdc
		confirmed bool
	}{
		"default salt":                  {nil, demanding(t), false},
		"another salt":                  {nil, requiring(entry(aes256, "forged")), true},
		"a salt of an unusable type":    {nil, requiring(entry(17_000, "forged")), false},
		"default iterations":            {nil, requiring(iterated(salt, 4096)), false},
		"more iterations":               {nil, requiring(iterated(salt, 4097)), true},
		"salt of the last login":        {afterHint, requiring(entry(aes256, "last")), false},
		"default, not of the last":      {afterHint, demanding(t), true},
		"iterations of the last login":  {afterMany, requiring(iterated(salt, 40_000)), false},
		"not those of the last login":   {afterMany, requiring(iterated(salt, 40_001)), true},
		"with a keytab":                 {keytab, requiring(iterated("forged", 40_000)), false},
		"another realm":                 {upnAlice, referring(t, other), true},
		"another realm with a keytab":   {func(c *ASConfig) { upnAlice(c); keytab(c) }, referring(t, other), true},
		"another realm of a plain name": {nil, referring(t, other), false},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []KeyInfo
			a := newAS(t, func(cfg *ASConfig) {
				cfg.Keys = passwordKeys{password: password, asked: &asked}
				if c.change != nil {
					c.change(cfg)
				}
			})
			first := must.OK(a.StepUDP(nil))(t)
			reply := c.answer(0, first)
			second, err := a.StepUDP(reply)
			if confirming := err == nil && second.TCP; confirming != c.confirmed || first.TCP {
				t.Fatalf("confirmed over TCP: %t, want %t (error %v)", confirming, c.confirmed, err)
			}
			if !c.confirmed {
				return
			}
			if second.PreAuth || second.Realm != realm || len(asked) != 0 {
				t.Errorf("request %+v, and %d keys are made", second, len(asked))
			}
			// The same bytes over TCP are the answer.
			third := must.OK(a.Step(reply))(t)
			if !third.TCP || third.PreAuth == (third.Realm == other) {
				t.Errorf("then %+v", third)
			}
		})
	}
}

// A forged refusal and a forged salt do not keep the right key from being proved over TCP.
func TestAS_DatagramRefusalForgotten(t *testing.T) {
	key := mustKey(t, aes256, password, salt)
	a := newAS(t, func(c *ASConfig) { c.Hint = &PreAuthHint{EType: aes256, Salt: salt, HasSalt: true} })
	first := must.OK(a.StepUDP(nil))(t)
	second := must.OK(a.StepUDP(errorFor(t, first.Message, messages.KDC_ERR_PREAUTH_FAILED).Marshal()))(t)
	third := must.OK(a.StepUDP(preAuthRequired(t, second.Message, entry(aes256, "forged"))))(t)
	proof := must.OK(a.Step(preAuthRequired(t, third.Message, entry(aes256, salt))))(t)
	if !first.PreAuth || second.PreAuth || third.PreAuth || !proof.PreAuth || !proof.TCP {
		t.Errorf("%t, %t, %t, %t", first.PreAuth, second.PreAuth, third.PreAuth, proof.PreAuth)
	}
	timestamp(t, proof.Message, key)
}

// Without TCP the reply to another request has to say the same.
func TestAS_DatagramsAgree(t *testing.T) {
	key := mustKey(t, aes256, password, "its salt")
	salted := func(salts ...string) kdc {
		return func(n int, r *Request) []byte {
			return preAuthRequired(t, r.Message, entry(aes256, salts[min(n, len(salts)-1)]))
		}
	}
	for name, c := range map[string]struct {
		answer   kdc
		requests int
	}{
		"at once":            {inTurn(salted("its salt"), salted("its salt"), loggingIn(t, key)), 3},
		"after a forged one": {inTurn(salted("forged"), salted("its salt"), salted("its salt"), loggingIn(t, key)), 4},
	} {
		t.Run(name, func(t *testing.T) {
			requests := must.OK(runUDP(t, newAS(t, nil), c.answer))(t)
			wantRequests(t, requests, c.requests)
			var nonces []uint32
			for _, r := range requests {
				nonces = append(nonces, parseRequest(t, r.Message).Body.Nonce)
			}
			if slices.Sort(nonces); len(slices.Compact(nonces)) != len(requests) {
				t.Errorf("nonces %d", nonces)
			}
		})
	}
	var asked []KeyInfo
	a := newAS(t, func(c *ASConfig) { c.Keys = passwordKeys{password: password, asked: &asked} })
	requests, err := runUDP(t, a, func(n int, r *Request) []byte {
		return preAuthRequired(t, r.Message, entry(aes256, fmt.Sprint("forged ", n)))
	})
	wantCode(t, err, messages.KDC_ERR_PREAUTH_REQUIRED)
	if len(requests) != 1+maxClaims || len(asked) != 0 {
		t.Errorf("%d requests, %d keys", len(requests), len(asked))
	}
}

// A password is proved in configured realms only; a keytab's key tells nothing.
func TestAS_UnconfiguredRealm(t *testing.T) {
	for name, c := range map[string]struct {
		keys       KeySource
		configured func(string) bool
		refused    bool
	}{
		"password, none":    {passwordKeys{password: password}, nil, true},
		"password, another": {passwordKeys{password: password}, func(r string) bool { return r == realm }, true},
		"password, it":      {passwordKeys{password: password}, func(r string) bool { return r == other }, false},
		"keytab":            {heldKeys{{aes256, 0}: newKey(t, aes256)}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAS(t, func(cfg *ASConfig) { upnAlice(cfg); cfg.Keys, cfg.Configured = c.keys, c.configured })
			first := begin(t, a)
			second, err := a.Step(wrongRealm(t, first, other))
			var unconfigured *UnconfiguredRealmError
			if errors.As(err, &unconfigured) != c.refused || !c.refused && second.Realm != other {
				t.Errorf("then %+v, error %v", second, err)
			}
			if c.refused {
				wantCode(t, err, messages.KDC_ERR_WRONG_REALM)
			}
		})
	}
}

// A spent budget makes no key, over TCP either.
func TestAS_NoKeyWithoutBudget(t *testing.T) {
	var asked []KeyInfo
	for _, hint := range []*PreAuthHint{nil, {EType: aes256, Salt: salt, HasSalt: true}} {
		a := newAS(t, func(c *ASConfig) {
			c.Keys, c.Budget, c.Hint = passwordKeys{password: password, asked: &asked}, NewBudget(0), hint
		})
		requests, err := run(t, a, demanding(t))
		wantCode(t, err, messages.KDC_ERR_PREAUTH_REQUIRED)
		if len(requests) != 1 || requests[0].PreAuth || len(asked) != 0 {
			t.Errorf("%d requests, %d keys", len(requests), len(asked))
		}
	}
}
