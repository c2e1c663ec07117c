package exchange

import (
	"errors"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// feed gives one reply to a machine that waits for its first, and verifies that Check and Step agree.
func feed(t *testing.T, m Machine, reply []byte) (*Request, error) {
	t.Helper()
	checked := m.Check(reply)
	req, err := m.Step(reply)
	if errors.Is(checked, ErrForeign) != errors.Is(err, ErrForeign) {
		t.Fatalf("Check says %v, Step says %v", checked, err)
	}
	if errors.Is(err, ErrForeign) && errors.Is(m.Check(reply), ErrFinished) {
		t.Fatal("a foreign reply has ended the exchange")
	}
	return req, err
}

func begin(t *testing.T, m Machine) *Request {
	t.Helper()
	return must.OK(m.Step(nil))(t)
}

// FuzzReply feeds arbitrary bytes to every machine. A reply that is not made with the key must not yield a ticket.
func FuzzReply(f *testing.F) {
	for _, exchanges := range transcripts(f) {
		for _, x := range exchanges {
			f.Add([]byte(x.Reply))
		}
	}
	tgt, key := tgtFor(f, alice, realm, realm), newKey(f, aes256)
	f.Fuzz(func(t *testing.T, reply []byte) {
		as := newAS(t, func(c *ASConfig) { c.Keys = heldKeys{{aes256, 0}: key}; c.Canonicalize = true })
		tgs := newTGS(t, func(c *TGSConfig) { c.TGT = tgt })
		self := newSelf(t, func(c *S4U2SelfConfig) { c.User = bobUPN })
		proxy := newProxy(t, nil)
		for _, m := range []Machine{as, tgs, self, proxy} {
			begin(t, m)
			_, _ = feed(t, m, reply)
		}
		if as.Result().Credential != nil || tgs.Result().Credential != nil || self.Result().Credential != nil || proxy.Result().Credential != nil {
			t.Fatal("a ticket was won")
		}
	})
}

// FuzzKRBError gives arbitrary errors about the right principals, each several times over.
func FuzzKRBError(f *testing.F) {
	f.Add(int32(25), "", messages.MethodData{info2(entry(aes256, salt)), encTS}.Marshal())
	f.Add(int32(24), "", []byte(nil))
	f.Add(int32(37), "", []byte(nil))
	f.Add(int32(68), other, []byte(nil))
	f.Add(int32(7), "", []byte(nil))
	key := newKey(f, aes256)
	f.Fuzz(func(t *testing.T, code int32, crealm string, edata []byte) {
		as := newAS(t, func(c *ASConfig) {
			c.Keys, c.Hint, c.Canonicalize = heldKeys{{aes256, 0}: key}, &PreAuthHint{EType: aes256}, true
		})
		for _, m := range []Machine{as, newTGS(t, nil), newTGS(t, func(c *TGSConfig) { c.Realm = other })} {
			req := begin(t, m)
			var err error
			for n := 0; req != nil && err == nil; n++ {
				if n > 2*MaxHops {
					t.Fatal("the exchange does not end")
				}
				e := errorFor(t, req.Message, messages.ErrorCode(code))
				e.CRealm, e.EData = crealm, edata
				req, err = feed(t, m, e.Marshal())
			}
			if err == nil {
				t.Fatal("an error yielded a ticket")
			}
		}
		if n := as.cfg.Budget.Sent(); n > MaxProofs {
			t.Fatalf("%d pre-authenticated requests", n)
		}
	})
}

// FuzzEncPart gives arbitrary plaintext under the right key. What is accepted must be what was asked for.
func FuzzEncPart(f *testing.F) {
	m := newTGS(f, nil)
	req := must.OK(m.Step(nil))(f)
	good := newTGSIssue(f, req.Message, m.cfg.TGT)
	f.Add(good.part.Marshal(), []byte(nil))
	f.Add(good.part.Marshal(), messages.MethodData{{Type: messages.PA_S4U_X509_USER, Value: []byte{1}}}.Marshal())
	key := mustKey(f, aes256, password, salt)
	f.Fuzz(func(t *testing.T, plain, padata []byte) {
		elements, _ := messages.ParseMethodData(padata)
		seal := func(i *issue) []byte {
			i.rep.PAData = elements
			cipher := must.OK(i.key.Encrypt(testRand, i.usage, plain))(t)
			i.rep.EncPart = messages.EncryptedData{EType: i.key.EType(), Cipher: cipher}
			return i.rep.Marshal()
		}
		as := newAS(t, func(c *ASConfig) { c.Keys = heldKeys{{aes256, 0}: key} })
		_, _ = feed(t, as, seal(newASIssue(t, begin(t, as).Message, key)))
		self := newSelf(t, nil)
		_, _ = feed(t, self, seal(selfIssue(t, begin(t, self).Message, self.cfg.TGT)))
		tgs := newTGS(t, func(c *TGSConfig) { c.Rand = &forced{nonce: good.part.Nonce} })
		_, _ = feed(t, tgs, seal(newTGSIssue(t, begin(t, tgs).Message, tgs.cfg.TGT)))
		if c := tgs.Result().Credential; c != nil {
			if !c.Client.Equal(alice) || !foldEqual(c.Service.Name, web) || !c.EndTime.After(c.Start()) || c.Key.EType() == enctype.RC4_HMAC {
				t.Fatalf("accepted: %v", c)
			}
		}
	})
}
