package negotiate

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// SPN is a service principal: the name under which a service is known to the
// KDC, such as HTTP/iis.corp.example, with or without a realm.
type SPN struct {
	principal messages.Principal
	text      string
}

// ErrSPN is wrapped by the errors of [ParseSPN].
var ErrSPN = errors.New("malformed service principal")

// ParseSPN reads SERVICE/HOST or SERVICE/HOST@REALM. It converts the host to lower case:
// KDCs ignore case (Active Directory) or have lower case names only.
func ParseSPN(s string) (SPN, error) {
	p, err := messages.ParsePrincipal(s, "")
	if err != nil {
		return SPN{}, fmt.Errorf("%w: %w", ErrSPN, err)
	}
	if len(p.Name.NameString) < 2 {
		return SPN{}, fmt.Errorf("%w: %q has no host; write e.g. HTTP/%s", ErrSPN, s, s)
	}
	for i, part := range p.Name.NameString {
		if part == "" || strings.ContainsFunc(part, notInName) {
			return SPN{}, fmt.Errorf("%w: %q has an empty part, a space or a control character", ErrSPN, s)
		}
		if i > 0 {
			p.Name.NameString[i] = strings.ToLower(part)
		}
	}
	p.Name.NameType = messages.KRB_NT_SRV_HST // the type that KDCs send referrals for (RFC 6806, Section 8)
	return newSPN(p), nil
}

// HostSPN returns HTTP/host (RFC 4559, Section 4.1).
func HostSPN(host string) (SPN, error) {
	if err := CheckHost(host); err != nil {
		return SPN{}, err
	}
	return newSPN(messages.Principal{
		Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", strings.ToLower(host)),
	}), nil
}

func newSPN(p messages.Principal) SPN {
	text := p.Name.String()
	if p.Realm != "" {
		text = p.String()
	}
	return SPN{principal: p, text: text}
}

// String is the text form, with the realm if one was given.
func (s SPN) String() string { return s.text }

// Host is the host.
func (s SPN) Host() string { return s.principal.Name.NameString[1] }

// Principal is the principal; without a realm unless one was given.
func (s SPN) Principal() messages.Principal { return s.principal }

// IsZero reports whether there is none.
func (s SPN) IsZero() bool { return s.text == "" }

// CheckHost makes sure that the host of a request is one DNS name, and nothing that could
// make another principal of the intended one.
func CheckHost(host string) error {
	if _, err := netip.ParseAddr(strings.TrimSuffix(host, ".")); err == nil {
		return fmt.Errorf("%w: %s is an address, not a host name", ErrSPN, host)
	}
	if err := messages.CheckHostName(host); err != nil {
		return fmt.Errorf("%w: %w", ErrSPN, err)
	}
	return nil
}

func notInName(r rune) bool { return r <= ' ' || r == 0x7f }
