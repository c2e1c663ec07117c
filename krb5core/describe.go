package krb5core

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// A Detail is one property of a message, for people.
type Detail struct {
	Name  string // constant, fit for the key of a log field: "kind", "client", "padata"
	Value string
}

// Bounds of a description, whatever the message holds.
const (
	maxItems = 32  // of a list
	maxText  = 256 // bytes of a text
)

// Describe decodes a message to or from a KDC. The first detail is its kind. Secrets are not shown:
// of each ciphertext it has the type and length, of a ticket the service too, of a key nothing.
func Describe(message []byte) []Detail {
	kind := messages.TypeOf(message)
	d := description{{"kind", kind.String()}}
	var err error
	switch kind {
	case messages.KRB_AS_REQ, messages.KRB_TGS_REQ:
		err = decode(message, messages.ParseKDCReq, d.request)
	case messages.KRB_AS_REP, messages.KRB_TGS_REP:
		err = decode(message, messages.ParseKDCRep, d.reply)
	case messages.KRB_ERROR:
		err = decode(message, messages.ParseKRBError, d.refusal)
	case 0:
		return []Detail{{"kind", "unknown"}, {"length", strconv.Itoa(len(message))}}
	default: // not a message to or from a KDC
	}
	if err != nil {
		d.add("malformed", err.Error())
	}
	return d
}

type description []Detail

func (d *description) add(name, value string) {
	if value != "" {
		*d = append(*d, Detail{name, value})
	}
}

func (d *description) time(name string, t time.Time) {
	if !t.IsZero() && t.Unix() > 0 { // 1970 asks for the longest life (RFC 4120, Section 5.4.1)
		d.add(name, t.UTC().Format(time.RFC3339))
	}
}

func (d *description) request(r *messages.KDCReq) {
	b := &r.Body
	d.add("client", name(b.CName, ""))
	d.add("service", name(b.SName, b.Realm))
	d.add("etypes", list(b.EType))
	d.add("options", b.KDCOptions.String())
	d.add("padata", padata(r.PAData))
	d.time("from", b.From)
	d.time("till", b.Till)
	d.time("renew_till", b.RTime)
	d.add("addresses", list(b.Addresses))
	if b.EncAuthorizationData != nil {
		d.add("authorization_data", sealed(*b.EncAuthorizationData))
	}
	d.add("additional_tickets", texts(b.AdditionalTickets, ticketText))
}

func (d *description) reply(r *messages.KDCRep) {
	d.add("client", name(r.CName, r.CRealm))
	d.add("ticket", ticketText(r.Ticket))
	d.add("encrypted", sealed(r.EncPart))
	d.add("padata", padata(r.PAData))
}

func (d *description) refusal(e *messages.KRBError) {
	d.add("krb_error", fmt.Sprintf("%s (%d)", e.ErrorCode, int32(e.ErrorCode)))
	d.add("meaning", e.ErrorCode.Meaning())
	d.add("client", name(e.CName, e.CRealm))
	d.add("service", name(e.SName, e.Realm))
	d.add("text", text(e.EText))
	d.time("server_time", e.STime)
	data := e.Data()
	if data.Status != 0 {
		d.add("nt_status", data.Status.String())
	}
	d.add("padata", padata(data.PAData))
	if data.Err != nil {
		d.add("e_data", data.Err.Error())
	}
}

// padata lists the type of each element, and its content unless that is secret.
func padata(elements messages.MethodData) string {
	return texts(elements, func(p messages.PAData) string {
		return fmt.Sprintf("%s (%s)", p.Type, cmp.Or(paText(p), size(len(p.Value))))
	})
}

// paText decodes an element; "" for one that is not decoded: of no interest, malformed, or secret.
func paText(p messages.PAData) (s string) {
	switch p.Type {
	case messages.PA_TGS_REQ:
		_ = decode(p.Value, messages.ParseAPReq, func(r *messages.APReq) {
			s = ticketText(r.Ticket) + ", authenticator " + sealed(r.Authenticator)
		})
	case messages.PA_ENC_TIMESTAMP, messages.PA_ENCRYPTED_CHALLENGE:
		_ = decode(p.Value, messages.ParseEncryptedData, func(e *messages.EncryptedData) { s = sealed(*e) })
	case messages.PA_ETYPE_INFO2:
		_ = decode(p.Value, messages.ParseETypeInfo2, func(entries messages.ETypeInfo2) { s = texts(entries, etypeInfo2) })
	case messages.PA_ETYPE_INFO:
		_ = decode(p.Value, messages.ParseETypeInfo, func(entries messages.ETypeInfo) {
			s = texts(entries, func(e messages.ETypeInfoEntry) string {
				return fmt.Sprintf("%s salt %s", e.EType, text(string(e.Salt)))
			})
		})
	case messages.PA_FOR_USER:
		_ = decode(p.Value, messages.ParsePAForUser, func(u *messages.PAForUser) { s = name(u.UserName, u.UserRealm) })
	case messages.PA_S4U_X509_USER:
		_ = decode(p.Value, messages.ParsePAS4UX509User, func(u *messages.PAS4UX509User) { s = name(u.UserID.CName, u.UserID.CRealm) })
	case messages.PA_PAC_OPTIONS:
		_ = decode(p.Value, messages.ParsePACOptions, func(o messages.PACOptions) { s = o.String() })
	}
	return s
}

// decode shows what parse makes of b.
func decode[T any](b []byte, parse func([]byte) (T, error), show func(T)) error {
	v, err := parse(b)
	if err == nil {
		show(v)
	}
	return err
}

func etypeInfo2(e messages.ETypeInfo2Entry) string {
	s := e.EType.String()
	if e.HasSalt {
		s += " salt " + text(e.Salt)
	}
	if e.S2KParams != nil {
		s += " parameters " + hex.EncodeToString(e.S2KParams[:min(len(e.S2KParams), 8)])
	}
	return s
}

func ticketText(t messages.Ticket) string {
	return fmt.Sprintf("for %s, %s", name(t.SName, t.Realm), sealed(t.EncPart))
}

func sealed(e messages.EncryptedData) string {
	s := e.EType.String()
	if e.HasKVNO {
		s += fmt.Sprintf(" kvno %d", e.KVNO)
	}
	return s + " " + size(len(e.Cipher))
}

func size(n int) string { return fmt.Sprintf("%d bytes", n) }

// name is the text of a principal that may lack the realm or the name.
func name(n messages.PrincipalName, realm string) string {
	switch {
	case n.IsZero():
		return ""
	case realm == "":
		return short(n.String())
	}
	return short(messages.Principal{Name: n, Realm: realm}.String())
}

func text(s string) string {
	if s == "" {
		return ""
	}
	return strconv.Quote(short(s))
}

func short(s string) string {
	if len(s) > maxText {
		return s[:maxText] + "..."
	}
	return s
}

func list[T any](items []T) string {
	return texts(items, func(item T) string { return fmt.Sprint(item) })
}

func texts[S ~[]T, T any](items S, text func(T) string) string {
	var b strings.Builder
	for i, item := range items {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == maxItems {
			b.WriteString("...")
			break
		}
		b.WriteString(text(item))
	}
	return b.String()
}
