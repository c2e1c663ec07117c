package gss

import (
	"bytes"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

func TestDelegatedTicketsOfMITAreReadAndRebuilt(t *testing.T) {
	delegated := 0
	for _, c := range mitContexts(t) {
		if c.Expect.Checksum.KRBCred == nil {
			continue
		}
		delegated++
		sessionKey := c.Expect.APReq.Ticket.EncPart.Key.key(t)
		cred, part := openDelegated(t, c.Expect.Checksum.KRBCred, sessionKey)
		if again := part.Marshal(); !bytes.Equal(again, c.Expect.Checksum.EncPart) {
			t.Errorf("EncKrbCredPart encoded again: %x", again)
		}

		info := part.TicketInfo[0]
		tgt := &messages.Credential{
			Client:  messages.Principal{Name: info.PName, Realm: info.PRealm},
			Service: messages.Principal{Name: info.SName, Realm: info.SRealm},
			Key:     info.Key, AuthTime: info.AuthTime, StartTime: info.StartTime, EndTime: info.EndTime, RenewTill: info.RenewTill,
			Flags: info.Flags, Ticket: cred.Tickets[0].Raw,
		}
		now := part.Timestamp.Add(time.Duration(part.USec) * time.Microsecond)
		ours, err := BuildDelegatedCred(tgt, sessionKey, now, nil)
		if err != nil {
			t.Fatal(err)
		}
		again, ourPart := openDelegated(t, ours, sessionKey)
		ourPart.Nonce = part.Nonce // MIT sends one that nobody reads
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
	plain, err := sessionKey.Decrypt(enctype.KEY_USAGE_KRB_CRED, cred.EncPart.Cipher)
	if err != nil {
		tb.Fatal(err)
	}
	part, err := messages.ParseEncKrbCredPart(plain)
	if err != nil || len(part.TicketInfo) != 1 {
		tb.Fatal(err, part)
	}
	return cred, part
}

func TestTicketsTooLargeToDelegateAreRefused(t *testing.T) {
	cred := testCredential(t, enctype.AES256_CTS_HMAC_SHA1_96, 66000)
	if _, err := BuildDelegatedCred(cred, cred.Key, time.Now(), nil); err == nil {
		t.Error("a KRB-CRED beyond 65535 octets was built")
	}
	if _, err := BuildDelegatedCred(&messages.Credential{}, cred.Key, time.Now(), nil); err == nil {
		t.Error("a KRB-CRED without a ticket was built")
	}
}
