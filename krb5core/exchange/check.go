package exchange

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// mismatch makes the error of a check that was not passed.
func mismatch(field string, want, got any) error {
	return &ReplyError{Field: field, Want: fmt.Sprint(want), Got: fmt.Sprint(got)}
}

// malformed makes the error of a reply that cannot be read.
func malformed(field string, err error) error { return &ReplyError{Field: field, Err: err} }

// readReply tells a reply of the wanted type from a KRB-ERROR and from everything else.
func readReply(reply []byte, want messages.MsgType) (*messages.KDCRep, *messages.KRBError, error) {
	switch got := messages.TypeOf(reply); got {
	case want:
		rep, err := messages.ParseKDCRep(reply)
		if err != nil {
			return nil, nil, malformed(want.String(), err)
		}
		return rep, nil, nil
	case messages.KRB_ERROR:
		e, err := messages.ParseKRBError(reply)
		if err != nil {
			return nil, nil, malformed("KRB_ERROR", err)
		}
		return nil, e, nil
	default:
		return nil, nil, mismatch("msg-type", want, got)
	}
}

// checkError tells whether a KRB-ERROR is about our request. It carries no nonce, so the names must do: those it gives
// must be ours. Some KDCs give none, or an empty sname of no realm (Heimdal), or their own (RFC 4120 5.9.1).
func checkError(e *messages.KRBError, client messages.PrincipalName, canonicalize bool, service messages.PrincipalName) error {
	if named(e.CName) && !canonicalize && !foldEqual(e.CName, client) {
		return mismatch("cname", client, e.CName)
	}
	if _, tgs := e.SName.IsTGS(); named(e.SName) && !tgs && !foldEqual(e.SName, service) {
		return mismatch("sname", service, e.SName)
	}
	return nil
}

func named(n messages.PrincipalName) bool {
	return slices.ContainsFunc(n.NameString, func(s string) bool { return s != "" })
}

// foldEqual compares names without regard to letter case, for where a KDC may correct that.
func foldEqual(a, b messages.PrincipalName) bool {
	return slices.EqualFunc(a.NameString, b.NameString, strings.EqualFold)
}

// checkTicket holds the enc-part of a reply against its ticket, the request's nonce and types, and the clock: what RFC 4120
// 3.1.5 and 3.3.4 ask of AS and TGS alike. now is the KDC's time.
func (c *common) checkTicket(rep *messages.KDCRep, part *messages.EncKDCRepPart, nonce uint32, now time.Time) error {
	switch {
	case part.Nonce != nonce:
		return mismatch("nonce", nonce, part.Nonce)
	case part.SRealm != rep.Ticket.Realm:
		return mismatch("srealm", rep.Ticket.Realm, part.SRealm)
	case !part.SName.Equal(rep.Ticket.SName):
		return mismatch("sname", rep.Ticket.SName, part.SName)
	case !slices.Contains(c.etypes, part.Key.EType()):
		return mismatch("key.keytype", fmt.Sprint("one of ", c.etypes), part.Key.EType())
	}
	if err := part.Key.EType().Check(); err != nil {
		return malformed("key.keytype", err)
	}
	return c.checkTimes(part, now)
}

func (c *common) checkTimes(part *messages.EncKDCRepPart, now time.Time) error {
	start := part.StartTime
	if start.IsZero() {
		start = part.AuthTime
	}
	switch {
	case start.After(now.Add(c.maxSkew)):
		return mismatch("starttime", "no later than "+text(now.Add(c.maxSkew)), text(start))
	case !part.EndTime.After(start):
		return mismatch("endtime", "later than starttime "+text(start), text(part.EndTime))
	case !part.EndTime.After(now.Add(-c.maxSkew)):
		return mismatch("endtime", "later than "+text(now), text(part.EndTime))
	case part.Flags&messages.TKT_FLG_RENEWABLE != 0 && !part.RenewTill.After(start):
		return mismatch("renew-till", "later than starttime "+text(start), text(part.RenewTill))
	case part.Flags&(messages.TKT_FLG_INVALID|messages.TKT_FLG_POSTDATED|messages.TKT_FLG_ANONYMOUS) != 0:
		return mismatch("flags", "neither invalid, postdated nor anonymous", part.Flags)
	}
	return nil
}

func text(t time.Time) string {
	if t.IsZero() {
		return "absent"
	}
	return t.UTC().Format(time.RFC3339)
}

// decrypt opens the enc-part of a reply. errWrongKey means that the key is another one.
func decrypt(key enctype.Key, usage enctype.Usage, part messages.EncryptedData) (*messages.EncKDCRepPart, error) {
	if key.EType() != part.EType {
		return nil, errWrongKey
	}
	plain, err := key.Decrypt(usage, part.Cipher)
	if err != nil {
		return nil, errWrongKey
	}
	enc, err := messages.ParseEncKDCRepPart(plain)
	if err != nil {
		return nil, malformed("enc-part", err)
	}
	return enc, nil
}

var errWrongKey = errors.New("does not decrypt")
