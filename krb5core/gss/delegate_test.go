package gss

import (
	"bytes"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestDelegate_MIT(t *testing.T) {
	delegated := 0
	for _, c := range mitContexts(t) {
		if c.Expect.Checksum.KRBCred == nil {
			continue
		}
		delegated++
		sessionKey := keyOf(t, c.Expect.APReq.Ticket.EncPart.Key)
		cred, part := openDelegated(t, c.Expect.Checksum.KRBCred, sessionKey)
		if !bytes.Equal(part.Marshal(), c.Expect.Checksum.EncPart) || !bytes.Equal(cred.Marshal(), c.Expect.Checksum.KRBCred) {
			t.Errorf("encoded again: %x of %x", cred.Marshal(), part.Marshal())
		}

		info := part.TicketInfo[0]
		tgt := &messages.Credential{
			Client:  messages.Principal{Name: info.PName, Realm: info.PRealm},
			Service: messages.Principal{Name: info.SName, Realm: info.SRealm},
			Key:     info.Key, AuthTime: info.AuthTime, StartTime: info.StartTime, EndTime: info.EndTime, RenewTill: info.RenewTill,
			Flags: info.Flags, Ticket: cred.Tickets[0].Raw,
		}
		now := part.Timestamp.Add(time.Duration(part.USec) * time.Microsecond)
		ours := must.OK(BuildDelegatedCred(tgt, sessionKey, now, nil))(t)
		again, ourPart := openDelegated(t, ours, sessionKey)
		ourPart.Nonce = part.Nonce // MIT sends one that is not read
		if !bytes.Equal(ourPart.Marshal(), c.Expect.Checksum.EncPart) || !bytes.Equal(again.Tickets[0].Raw, cred.Tickets[0].Raw) {
			t.Errorf("rebuilt: %x", ourPart.Marshal())
		}
	}
	if delegated != 2 {
		t.Errorf("%d delegated tickets among the vectors, want 2", delegated)
	}
}

func openDelegated(tb testing.TB, b []byte, sessionKey enctype.Key) (*messages.KRBCred, *messages.EncKrbCredPart) {
	tb.Helper()
	cred, err := messages.ParseKRBCred(b)
	if err != nil || len(cred.Tickets) != 1 {
		tb.Fatal(err, cred)
	}
	plain := must.OK(sessionKey.Decrypt(enctype.KEY_USAGE_KRB_CRED, cred.EncPart.Cipher))(tb)
	part, err := messages.ParseEncKrbCredPart(plain)
	if err != nil || len(part.TicketInfo) != 1 {
		tb.Fatal(err, part)
	}
	return cred, part
}

func TestDelegate_TooLarge(t *testing.T) {
	cred := testCredential(t, enctype.AES256_CTS_HMAC_SHA1_96, 66000)
	if _, err := BuildDelegatedCred(cred, cred.Key, time.Now(), nil); err == nil {
		t.Error("a KRB-CRED beyond 65535 bytes was built")
	}
	if _, err := BuildDelegatedCred(&messages.Credential{}, cred.Key, time.Now(), nil); err == nil {
		t.Error("a KRB-CRED without a ticket was built")
	}
}
