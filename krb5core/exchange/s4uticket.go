package exchange

import (
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// checkUsersTicket opens the ticket to ourselves, if we hold its key, and sees that it is the one that the reply is about, and
// the user's. Without FAST nothing else shows that: the ticket and cname stand outside of what is encrypted in a reply
// (RFC 4120 5.4.2), nothing ties PA-FOR-USER to one request ([MS-SFU] 2.2.1), and S4U2Proxy takes whatever ticket we
// send on. So somebody between us and the KDC could put another user's ticket in the place of this one's.
func (s *S4U2Self) checkUsersTicket(a *tgsAnswer) error {
	part, err := s.openTicket(&a.rep.Ticket)
	if part == nil {
		return err
	}
	if !part.Key.Equal(a.part.Key) {
		return mismatch("ticket", "the one that the reply is about", "another")
	}
	if !strings.EqualFold(part.CRealm, a.rep.CRealm) || !foldEqual(part.CName, a.rep.CName) {
		return mismatch("ticket's client", messages.Principal{Name: a.rep.CName, Realm: a.rep.CRealm},
			messages.Principal{Name: part.CName, Realm: part.CRealm})
	}
	return nil
}

// openTicket decrypts a ticket to ourselves. It returns nil, nil if none of our keys fits: a keytab need not hold the
// account's newest one.
func (s *S4U2Self) openTicket(ticket *messages.Ticket) (*messages.EncTicketPart, error) {
	if s.cfg.Keys == nil {
		return nil, nil
	}
	enc := ticket.EncPart
	info := KeyInfo{EType: enc.EType, Salt: defaultSalt(s.cfg.TGT.Client)}
	if h := s.cfg.Hint; h != nil {
		if h.HasSalt {
			info.Salt, info.HasSalt = h.Salt, true
		}
		if h.EType == enc.EType {
			info.Params = h.Params
		}
	}
	for _, info.KVNO = range versions(enc) {
		key, err := s.cfg.Keys.Key(info)
		if err != nil {
			continue
		}
		plain, err := key.Decrypt(enctype.KEY_USAGE_TICKET, enc.Cipher)
		if err != nil {
			continue
		}
		part, err := messages.ParseEncTicketPart(plain)
		if err != nil {
			return nil, malformed("ticket", err)
		}
		return part, nil
	}
	return nil, nil
}
