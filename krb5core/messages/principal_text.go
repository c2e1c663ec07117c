package messages

import (
	"errors"
	"fmt"
	"strings"
)

// Principal is a name and its realm.
type Principal struct {
	Name  PrincipalName
	Realm string
}

// Equal reports whether both are the same principal; the name's type does not count.
func (p Principal) Equal(other Principal) bool {
	return p.Realm == other.Realm && p.Name.Equal(other.Name)
}

// IsZero reports whether the principal is absent.
func (p Principal) IsZero() bool { return p.Realm == "" && p.Name.IsZero() }

// ErrPrincipal is wrapped by the errors of ParsePrincipal and ParseEnterprise.
var ErrPrincipal = errors.New("malformed principal name")

// ParsePrincipal reads the text form of a principal as MIT's krb5_parse_name does: components
// separated by slashes, then an at sign and the realm, defaultRealm when there is no at sign. A
// backslash takes the meaning from the character after it; \n, \t, \b and \0 are the control
// characters. "alice@" has an empty realm. The name's type is KRB_NT_PRINCIPAL, KRB_NT_SRV_INST for
// krbtgt/REALM, KRB_NT_WELLKNOWN for WELLKNOWN/...; for a host-based service set another.
func ParsePrincipal(s, defaultRealm string) (Principal, error) {
	components := []string{""}
	p := Principal{Realm: defaultRealm}
	var part strings.Builder
	inRealm := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
			if i == len(s) {
				return Principal{}, fmt.Errorf("%w: %q ends in a backslash, which needs a character after it", ErrPrincipal, s)
			}
			part.WriteByte(unescape(s[i]))
		case c == '/' && !inRealm:
			components[len(components)-1] = part.String()
			components = append(components, "")
			part.Reset()
		case c == '@' && !inRealm:
			components[len(components)-1] = part.String()
			part.Reset()
			inRealm = true
		case inRealm && (c == '@' || c == '/'):
			return Principal{}, fmt.Errorf("%w: %q has %q in its realm; write \\%c if it belongs to the name", ErrPrincipal, s, c, c)
		default:
			part.WriteByte(c)
		}
	}
	if inRealm {
		p.Realm = part.String()
	} else {
		components[len(components)-1] = part.String()
	}
	p.Name = PrincipalName{NameType: guessNameType(components), NameString: components}
	return p, nil
}

// guessNameType is the type that a name of this form has by convention (RFC 4120, Sections 6.2 and
// 7.3; RFC 6111, Section 3.1).
func guessNameType(components []string) NameType {
	switch {
	case len(components) == 2 && components[0] == tgsName:
		return KRB_NT_SRV_INST
	case len(components) >= 2 && components[0] == wellKnownName:
		return KRB_NT_WELLKNOWN
	}
	return KRB_NT_PRINCIPAL
}

// ParseEnterprise returns the enterprise name (RFC 6806, Section 5) of a user principal name such
// as alice@corp.example.com: one component, at signs and slashes included. A second at sign begins
// the realm, which is defaultRealm otherwise.
func ParseEnterprise(upn, defaultRealm string) (Principal, error) {
	var name strings.Builder
	ats := 0
	for i := 0; i < len(upn); i++ {
		switch c := upn[i]; {
		case c == '\\':
			i++
			if i == len(upn) {
				return Principal{}, fmt.Errorf("%w: %q ends in a backslash, which needs a character after it", ErrPrincipal, upn)
			}
			name.WriteByte(unescape(upn[i]))
		case c == '@' && ats == 1:
			realm, err := ParsePrincipal(upn[i:], "")
			if err != nil {
				return Principal{}, fmt.Errorf("%w: %q", err, upn)
			}
			return Principal{enterpriseName(name.String()), realm.Realm}, nil
		default:
			if c == '@' {
				ats++
			}
			name.WriteByte(c)
		}
	}
	return Principal{enterpriseName(name.String()), defaultRealm}, nil
}

func enterpriseName(upn string) PrincipalName {
	return PrincipalName{NameType: KRB_NT_ENTERPRISE, NameString: []string{upn}}
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case '0':
		return 0
	}
	return c
}

// String is the text form that ParsePrincipal reads back, realm included.
func (p Principal) String() string {
	b := appendComponents(nil, p.Name.NameString, true)
	return string(appendEscaped(append(b, '@'), p.Realm, true))
}

// String is the text form without a realm. At signs are not escaped, as MIT displays
// such names.
func (n PrincipalName) String() string { return string(appendComponents(nil, n.NameString, false)) }

func appendComponents(dst []byte, components []string, escapeAt bool) []byte {
	for i, component := range components {
		if i > 0 {
			dst = append(dst, '/')
		}
		dst = appendEscaped(dst, component, escapeAt)
	}
	return dst
}

func appendEscaped(dst []byte, s string, escapeAt bool) []byte {
	for i := range len(s) {
		switch c := s[i]; c {
		case '\n':
			dst = append(dst, `\n`...)
		case '\t':
			dst = append(dst, `\t`...)
		case '\b':
			dst = append(dst, `\b`...)
		case 0:
			dst = append(dst, `\0`...)
		case '/', '\\':
			dst = append(dst, '\\', c)
		case '@':
			if escapeAt {
				dst = append(dst, '\\')
			}
			dst = append(dst, c)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
