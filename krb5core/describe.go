package krb5core

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// A Detail is one thing about a message, for people.
type Detail struct {
	Name  string // constant, fit for the key of a log field: "kind", "client", "padata"
	Value string
}

// Bounds of a description, whatever the message holds.
const (
	maxItems = 32  // of a list
	maxText  = 256 // octets of a text
)

// Describe decodes a message to or from a KDC. The first detail is its kind. What
// is secret stays so: of each ciphertext the type and the length is told, of a
// ticket the service too, of a key nothing.
func Describe(message []byte) []Detail {
	kind := messages.TypeOf(message)
	d := description{{"kind", kind.String()}}
	var err error
	switch kind {
	case messages.KRB_AS_REQ, messages.KRB_TGS_REQ:
		var req *messages.KDCReq
		if req, err = messages.ParseKDCReq(message); err == nil {
			d.request(req)
		}
	case messages.KRB_AS_REP, messages.KRB_TGS_REP:
		var rep *messages.KDCRep
		if rep, err = messages.ParseKDCRep(message); err == nil {
			d.reply(rep)
		}
	case messages.KRB_ERROR:
		var e *messages.KRBError
		if e, err = messages.ParseKRBError(message); err == nil {
			d.refusal(e)
		}
	case 0:
		return []Detail{{"kind", "unknown"}, {"length", strconv.Itoa(len(message))}}
	default: // nothing that goes to or from a KDC
	}
	if err != nil {
		d.add("malformed", err.Error())
	}
	return d
}

type description []Detail

// add adds what there is.
func (d *description) add(name, value string) {
	if value != "" {
		*d = append(*d, Detail{name, value})
	}
}

func (d *description) time(name string, t time.Time) {
	if !t.IsZero() && t.Unix() > 0 { // 1970 asks for the longest life (RFC 4120 5.4.1)
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
	tickets := make([]string, len(b.AdditionalTickets))
	for i := range b.AdditionalTickets {
		tickets[i] = ticketText(b.AdditionalTickets[i])
	}
	d.add("additional_tickets", list(tickets))
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

// padata tells each element's type, and what it says where that is no secret.
func padata(elements messages.MethodData) string {
	texts := make([]string, 0, min(len(elements), maxItems+1))
	for _, p := range elements {
		if len(texts) > maxItems {
			break
		}
		said := paText(p)
		if said == "" {
			said = octets(len(p.Value))
		}
		texts = append(texts, fmt.Sprintf("%s (%s)", p.Type, said))
	}
	return list(texts)
}

// paText decodes an element, or gives nothing.
func paText(p messages.PAData) string {
	switch p.Type {
	case messages.PA_TGS_REQ:
		if r, err := messages.ParseAPReq(p.Value); err == nil {
			return ticketText(r.Ticket) + ", authenticator " + sealed(r.Authenticator)
		}
	case messages.PA_ENC_TIMESTAMP, messages.PA_ENCRYPTED_CHALLENGE:
		if e, err := messages.ParseEncryptedData(p.Value); err == nil {
			return sealed(*e)
		}
	case messages.PA_ETYPE_INFO2:
		if entries, err := messages.ParseETypeInfo2(p.Value); err == nil {
			return etypeInfo2(entries)
		}
	case messages.PA_ETYPE_INFO:
		if entries, err := messages.ParseETypeInfo(p.Value); err == nil {
			texts := make([]string, len(entries))
			for i, e := range entries {
				texts[i] = fmt.Sprintf("%s salt %s", e.EType, text(string(e.Salt)))
			}
			return list(texts)
		}
	case messages.PA_FOR_USER:
		if u, err := messages.ParsePAForUser(p.Value); err == nil {
			return name(u.UserName, u.UserRealm)
		}
	case messages.PA_S4U_X509_USER:
		if u, err := messages.ParsePAS4UX509User(p.Value); err == nil {
			return name(u.UserID.CName, u.UserID.CRealm)
		}
	case messages.PA_PAC_OPTIONS:
		if o, err := messages.ParsePACOptions(p.Value); err == nil {
			return o.String()
		}
	default: // of no interest, or a secret
	}
	return ""
}

func etypeInfo2(entries messages.ETypeInfo2) string {
	texts := make([]string, len(entries))
	for i, e := range entries {
		texts[i] = e.EType.String()
		if e.HasSalt {
			texts[i] += " salt " + text(e.Salt)
		}
		if e.S2KParams != nil {
			texts[i] += " parameters " + hex.EncodeToString(e.S2KParams[:min(len(e.S2KParams), 8)])
		}
	}
	return list(texts)
}

// ticketText tells whose ticket it is, and with what it is encrypted.
func ticketText(t messages.Ticket) string {
	return fmt.Sprintf("for %s, %s", name(t.SName, t.Realm), sealed(t.EncPart))
}

// sealed stands for a ciphertext.
func sealed(e messages.EncryptedData) string {
	s := e.EType.String()
	if e.HasKVNO {
		s += fmt.Sprintf(" kvno %d", e.KVNO)
	}
	return s + " " + octets(len(e.Cipher))
}

func octets(n int) string { return fmt.Sprintf("%d bytes", n) }

// name is a principal, of which the realm or all may be absent.
func name(n messages.PrincipalName, realm string) string {
	switch {
	case n.IsZero():
		return ""
	case realm == "":
		return short(n.String())
	}
	return short(messages.Principal{Name: n, Realm: realm}.String())
}

// text quotes what the network says.
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

// list joins the first few.
func list[T any](items []T) string {
	var b strings.Builder
	for i, item := range items {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == maxItems {
			b.WriteString("...")
			break
		}
		fmt.Fprint(&b, item)
	}
	return b.String()
}
