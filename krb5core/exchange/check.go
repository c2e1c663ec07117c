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

func mismatch(field string, want, got any) error {
	return &ReplyError{Field: field, Want: fmt.Sprint(want), Got: fmt.Sprint(got)}
}

func malformed(field string, err error) error { return &ReplyError{Field: field, Err: err} }

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

// judged checks a reply to a request, and what is in its armor, by the functions.
func judged[T any](
	reply []byte, want messages.MsgType, armor *armor, nonce uint32,
	checkError func(*messages.KRBError) error, checkReply func(*messages.KDCRep) (*T, error),
) (*T, *messages.KRBError, error) {
	rep, krbErr, err := readReply(reply, want)
	switch {
	case err != nil:
		return nil, nil, err
	case krbErr != nil:
		if krbErr, err = armor.openError(krbErr, nonce); err != nil {
			return nil, nil, err
		}
		return nil, krbErr, checkError(krbErr)
	}
	answer, err := checkReply(rep)
	return answer, nil, err
}

// checkError reports whether a KRB-ERROR is about our request. It has no nonce, so it is recognized
// by its names: those it has must be ours. Some KDCs send none, or an empty sname without a realm
// (Heimdal), or their own (RFC 4120, Section 5.9.1).
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

// foldEqual compares names without regard to letter case, which a KDC may correct.
func foldEqual(a, b messages.PrincipalName) bool {
	return slices.EqualFunc(a.NameString, b.NameString, strings.EqualFold)
}

// checkTicket compares the enc-part of a reply with its ticket, the request's nonce and types, and
// the clock, as RFC 4120, Section 3.1.5 and 3.3.4 require for AS and TGS. now is the KDC's time.
func (c *common) checkTicket(rep *messages.KDCRep, part *messages.EncKDCRepPart, nonce uint32, now time.Time) error {
	switch {
	case part.Nonce != nonce:
		return mismatch("nonce", nonce, part.Nonce)
	case part.SRealm != rep.Ticket.Realm:
		return mismatch("srealm", rep.Ticket.Realm, part.SRealm)
	case !part.SName.Equal(rep.Ticket.SName):
		return mismatch("sname", rep.Ticket.SName, part.SName)
	case !slices.Contains(c.ETypes, part.Key.EType()):
		return mismatch("key.keytype", fmt.Sprint("one of ", c.ETypes), part.Key.EType())
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
	case start.After(now.Add(c.MaxSkew)):
		return mismatch("starttime", "no later than "+text(now.Add(c.MaxSkew)), text(start))
	case !part.EndTime.After(start):
		return mismatch("endtime", "later than starttime "+text(start), text(part.EndTime))
	case !part.EndTime.After(now.Add(-c.MaxSkew)):
		return mismatch("endtime", "later than "+text(now), text(part.EndTime))
	case part.Flags&messages.TKT_FLG_RENEWABLE != 0 && !part.RenewTill.After(start):
		return mismatch("renew-till", "later than starttime "+text(start), text(part.RenewTill))
	case part.Flags&(messages.TKT_FLG_INVALID|messages.TKT_FLG_POSTDATED) != 0:
		return mismatch("flags", "neither invalid nor postdated", part.Flags)
	case part.Flags&messages.TKT_FLG_ANONYMOUS != 0 != c.anonymous:
		return mismatch("flags", fmt.Sprintf("anonymous: %t", c.anonymous), part.Flags)
	}
	return nil
}

func text(t time.Time) string {
	if t.IsZero() {
		return "absent"
	}
	return t.UTC().Format(time.RFC3339)
}

// decrypt opens the enc-part of a reply. The error is errWrongKey if it was encrypted with another
// key.
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

func tgtRealm(tgt *messages.Credential) string {
	realm, _ := tgt.Service.Name.IsTGS()
	return realm
}

func checkTGT(tgt *messages.Credential) error {
	switch {
	case tgt == nil:
		return errors.New("no ticket-granting ticket")
	case tgtRealm(tgt) == "":
		return fmt.Errorf("ticket for %s is no ticket-granting ticket", tgt.Service)
	case tgt.Key.IsZero() || len(tgt.Ticket) == 0:
		return fmt.Errorf("ticket-granting ticket %s has no key or no ticket", tgt.Service)
	}
	return nil
}

// notFollowed returns why a referral to the realm next is not followed after the realms asked so
// far, or "" if it is.
func notFollowed(via []string, next string) (reason string) {
	switch {
	case next == "":
		return "the KDC names no realm"
	case slices.ContainsFunc(via, func(realm string) bool { return strings.EqualFold(realm, next) }):
		return "loop"
	case len(via) > MaxHops:
		return "too many hops"
	}
	return ""
}
