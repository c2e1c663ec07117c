package krb5core_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// forgeMethods sends, before each true reply, a demand for pre-authentication with this METHOD-DATA, as anyone on the
// network can.
func forgeMethods(methods messages.MethodData) kdctest.Fault {
	return func(next kdctest.Handler) kdctest.Handler {
		return func(q *kdctest.Question) kdctest.Answer {
			a := next(q)
			forged := &messages.KRBError{
				STime: time.Now().UTC().Truncate(time.Second), ErrorCode: messages.KDC_ERR_PREAUTH_REQUIRED,
				Realm: realmName, SName: messages.TGSName(realmName), EData: methods.Marshal(),
			}
			a.Messages = append([][]byte{forged.Marshal()}, a.Messages...)
			return a
		}
	}
}

func TestForged_PreAuthRequired(t *testing.T) {
	rc4 := messages.ETypeInfo2{{EType: enctype.RC4_HMAC}}
	few := messages.ETypeInfo2{{EType: enctype.AES256_CTS_HMAC_SHA1_96, Salt: "x", HasSalt: true, S2KParams: []byte{0, 0, 0, 1}}}
	timestamp := messages.PAData{Type: messages.PA_ENC_TIMESTAMP}
	for name, methods := range map[string]messages.MethodData{
		"weak types only":    {timestamp, {Type: messages.PA_ETYPE_INFO2, Value: rc4.Marshal()}},
		"too few iterations": {timestamp, {Type: messages.PA_ETYPE_INFO2, Value: few.Marshal()}},
		"no known mechanism": {{Type: messages.PA_PK_AS_REQ}},
		"an unreadable challenge": {
			{Type: messages.PA_SPAKE, Value: (&messages.PASPAKE{Challenge: &messages.SPAKEChallenge{
				Group: messages.SPAKE_GROUP_EDWARDS25519, Pubkey: make([]byte, 32),
				Factors: []messages.SPAKESecondFactor{{Type: 2}},
			}}).Marshal()},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "right", nil)
			w.kdcs[0].Use(kdctest.UDP(kdctest.AS(forgeMethods(methods))))
			w.login()

			// By a stream it is the KDC's word, as far as words go.
			w = newWorld(t, "right", func(c *krb5core.Config) { c.TCPOnly = true })
			w.kdcs[0].Use(kdctest.AS(forgeMethods(methods)))
			if _, err := w.client.Login(t.Context(), w.account, nil); err == nil {
				t.Error("logged in nevertheless")
			}
			if n, _ := w.preAuths(); n != 0 {
				t.Errorf("%d proofs of the key", n)
			}
		})
	}
}

// forgeReplies sends, before each true answer, n replies that name a salt of their own and so many iterations.
func forgeReplies(n int, iterations uint32) kdctest.Fault {
	return func(next kdctest.Handler) kdctest.Handler {
		return func(q *kdctest.Question) kdctest.Answer {
			a := next(q)
			var forged [][]byte
			for i := range n {
				info := messages.ETypeInfo2{{
					EType: enctype.AES256_CTS_HMAC_SHA1_96, Salt: fmt.Sprint("forged ", i), HasSalt: true,
					S2KParams: binary.BigEndian.AppendUint32(nil, iterations),
				}}
				cipher := messages.EncryptedData{EType: enctype.AES256_CTS_HMAC_SHA1_96, Cipher: make([]byte, 64)}
				forged = append(forged, (&messages.KDCRep{
					MsgType: messages.KRB_AS_REP, CRealm: realmName, CName: user("alice").Name, EncPart: cipher,
					PAData: messages.MethodData{{Type: messages.PA_ETYPE_INFO2, Value: info.Marshal()}},
					Ticket: messages.Ticket{Realm: realmName, SName: messages.TGSName(realmName), EncPart: cipher},
				}).Marshal())
			}
			a.Messages = append(forged, a.Messages...)
			return a
		}
	}
}

func TestForged_IterationsBounded(t *testing.T) {
	const each = 1<<16 + 1 // of which one fits
	w := newWorld(t, "", nil)
	var made atomic.Int32
	w.account = w.as(krb5core.PasswordKeys(func() (string, error) {
		made.Add(1)
		return "right", nil
	}))
	w.kdcs[0].Use(kdctest.UDP(kdctest.AS(forgeReplies(20, each))))
	w.login()
	if n := made.Load(); n > 2 { // beside it the true key
		t.Errorf("%d keys were made", n)
	}

	// What forged replies have used up is not missed by the key that the KDC asks for.
	w.account = w.as(password("right"))
	w.kdcs[0].ClearFaults()
	w.kdcs[0].Use(kdctest.UDP(kdctest.AS(forgeReplies(1, 1<<17))))
	w.login()
}

func TestForged_IterationsRemedy(t *testing.T) {
	w := newWorld(t, "right", func(c *krb5core.Config) { c.TCPOnly = true })
	many := messages.ETypeInfo2{{
		EType: enctype.AES256_CTS_HMAC_SHA1_96, Salt: "x", HasSalt: true, S2KParams: []byte{0, 0x0f, 0x42, 0x41},
	}}
	w.kdcs[0].Use(kdctest.AS(forgeMethods(messages.MethodData{
		{Type: messages.PA_ENC_TIMESTAMP}, {Type: messages.PA_ETYPE_INFO2, Value: many.Marshal()},
	})))
	_, err := w.client.Login(t.Context(), w.account, nil)
	for _, want := range []string{"1000001", fmt.Sprint(enctype.MaxIterations), "keytab"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not tell of %s", err, want)
		}
	}
}

func TestError_Bounded(t *testing.T) {
	var types messages.ETypeInfo2
	for id := range 5000 {
		types = append(types, messages.ETypeInfo2Entry{EType: enctype.ID(1000 + id)})
	}
	salted := messages.ETypeInfo2{{EType: enctype.AES256_CTS_HMAC_SHA1_96, Salt: strings.Repeat("salt", 10_000), HasSalt: true}}
	timestamp := messages.PAData{Type: messages.PA_ENC_TIMESTAMP}
	say := func(e *messages.KRBError) kdctest.Fault {
		return func(kdctest.Handler) kdctest.Handler {
			return func(*kdctest.Question) kdctest.Answer {
				e.STime, e.Realm, e.SName = time.Now().UTC().Truncate(time.Second), realmName, messages.TGSName(realmName)
				return kdctest.Answer{Messages: [][]byte{e.Marshal()}}
			}
		}
	}
	for name, fault := range map[string]kdctest.Fault{
		"text":  say(&messages.KRBError{ErrorCode: messages.KRB_ERR_GENERIC, EText: strings.Repeat("text", 10_000)}),
		"types": forgeMethods(messages.MethodData{timestamp, {Type: messages.PA_ETYPE_INFO2, Value: types.Marshal()}}),
		"salt":  kdctest.Times(1, forgeMethods(messages.MethodData{timestamp, {Type: messages.PA_ETYPE_INFO2, Value: salted.Marshal()}})),
	} {
		w := newWorld(t, "right", func(c *krb5core.Config) { c.TCPOnly = true })
		w.kdcs[0].Use(kdctest.AS(fault))
		_, err := w.client.Login(t.Context(), w.account, nil)
		var e *krb5core.Error
		if !errors.As(err, &e) {
			t.Fatalf("%s: %v", name, err)
		}
		if n := len(e.Error()); n > 10_000 || len(e.Salt) > 1000 {
			t.Errorf("%s: an error of %d bytes and a salt of %d", name, n, len(e.Salt))
		}
	}
}
