package messages

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// The messages within the GSS contexts that MIT established with itself, delegated credentials among them.
func TestMessagesOfMITsContextsAreReadAndWrittenAsTheyAre(t *testing.T) {
	var file struct {
		Cases []struct {
			Mech   string
			Tokens []struct{ From, Token string }
			Expect struct {
				APReq struct {
					Ticket struct {
						EncPart struct{ Key transcriptKey } `json:"enc_part"`
					}
				} `json:"ap_req"`
			}
		}
	}
	readVectors(t, "mit-gss.json", &file)
	var apReqs, apReps, creds int
	for _, c := range file.Cases {
		if c.Mech != "krb5" {
			continue
		}
		key := c.Expect.APReq.Ticket.EncPart.Key.key(t)
		for _, token := range c.Tokens {
			message := unframed(t, unhex(token.Token))
			switch TypeOf(message) {
			case KRB_AP_REQ:
				apReqs++
				r := reread(t, "AP-REQ", message, ParseAPReq)
				a := decrypted(t, "Authenticator", key, enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, r.Authenticator, ParseAuthenticator)
				if b := delegated(a.Cksum.Value); b != nil {
					creds++
					checkDelegated(t, reread(t, "KRB-CRED", b, ParseKRBCred), key)
				}
			case KRB_AP_REP:
				apReps++
				r := reread(t, "AP-REP", message, ParseAPRep)
				decrypted(t, "EncAPRepPart", key, enctype.KEY_USAGE_AP_REP, r.EncPart, ParseEncAPRepPart)
			}
		}
	}
	if apReqs == 0 || apReps == 0 || creds == 0 {
		t.Errorf("%d AP-REQs, %d AP-REPs, %d KRB-CREDs", apReqs, apReps, creds)
	}
}

// unframed is the message in a context token: [APPLICATION 0] { mechanism, token ID, message } (RFC 4121 4.1), or bare when
// the context is of DCE style.
func unframed(t *testing.T, token []byte) []byte {
	t.Helper()
	s := der.String(token)
	var inner der.String
	var oid []byte
	if !der.ReadElement(&s, der.Application(0), &inner) {
		return token
	}
	if !der.ReadOID(&inner, &oid) || !inner.Skip(2) {
		t.Fatalf("%x is no context token", token)
	}
	return inner
}

// delegated is the KRB-CRED in a checksum of type 0x8003, or nil (RFC 4121 4.1.1).
func delegated(sum []byte) []byte {
	const header = 28
	if len(sum) < header || sum[20]&1 == 0 {
		return nil
	}
	n := int(binary.LittleEndian.Uint16(sum[header-2:]))
	return sum[header : header+n]
}

func checkDelegated(t *testing.T, c *KRBCred, key enctype.Key) {
	part := decrypted(t, "EncKrbCredPart", key, enctype.KEY_USAGE_KRB_CRED, c.EncPart, ParseEncKrbCredPart)
	if len(part.TicketInfo) != len(c.Tickets) {
		t.Fatalf("%d tickets, %d descriptions", len(c.Tickets), len(part.TicketInfo))
	}
	info := part.TicketInfo[0]
	if _, ok := info.SName.IsTGS(); !ok || info.Flags&TKT_FLG_FORWARDED == 0 || info.Key.IsZero() {
		t.Errorf("delegated is %v, flags %v", info.SName, info.Flags)
	}
	// What we would say of the same ticket is what MIT says.
	cred := &Credential{
		Client: Principal{info.PName, info.PRealm}, Service: Principal{info.SName, info.SRealm}, Key: info.Key, Flags: info.Flags,
		AuthTime: info.AuthTime, StartTime: info.StartTime, EndTime: info.EndTime, RenewTill: info.RenewTill, Addresses: info.CAddr,
	}
	again := *part
	again.TicketInfo = []KrbCredInfo{cred.CredInfo()}
	if !bytes.Equal(again.Marshal(), part.Marshal()) {
		t.Errorf("we would write\n%x\nnot\n%x", again.Marshal(), part.Marshal())
	}
}
