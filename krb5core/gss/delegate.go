package gss

import (
	"fmt"
	"io"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// BuildDelegatedCred returns the KRB-CRED that hands tgt, a forwarded ticket-granting ticket, to an
// acceptor, for TemplateConfig.DelegatedCred. Its secret part is encrypted under ticketKey, the
// session key of the service ticket that it is sent with (RFC 4121, Section 4.1.1); now is the
// realm's time. Rand nil means crypto/rand.
func BuildDelegatedCred(tgt *messages.Credential, ticketKey enctype.Key, now time.Time, rand io.Reader) ([]byte, error) {
	if tgt.Key.IsZero() || len(tgt.Ticket) == 0 {
		return nil, fmt.Errorf("no key or no ticket to delegate for %s", tgt.Client)
	}
	part := messages.EncKrbCredPart{
		TicketInfo: []messages.KrbCredInfo{tgt.CredInfo()},
		Timestamp:  now,
		USec:       int32(now.Nanosecond() / 1000),
	}
	plain := part.Marshal()
	defer clear(plain)
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	cipher, err := ticketKey.Encrypt(randomReader{s, rand}, enctype.KEY_USAGE_KRB_CRED, plain)
	if err != nil {
		return nil, fmt.Errorf("encrypting the delegated ticket: %w", err)
	}
	cred := messages.KRBCred{
		Tickets: []messages.Ticket{{Raw: tgt.Ticket}},
		EncPart: messages.EncryptedData{EType: ticketKey.EType(), Cipher: cipher},
	}
	b := cred.Marshal()
	if len(b) > maxDelegated {
		return nil, fmt.Errorf("delegated ticket of %d bytes exceeds the %d of a GSS checksum", len(b), maxDelegated)
	}
	return b, nil
}
