package lab

import (
	"fmt"
	"strings"
	"time"
)

// Principal is a principal of an MIT realm.
type Principal struct {
	// Name is without the realm: alice, HTTP/app.lab.test.
	Name string
	// Password makes a user, who must pre-authenticate. Without one it is a service
	// with random keys.
	Password string
	// ETypes are those of its keys, by MIT's names; none: the realm's.
	ETypes []string
	// Salt is MIT's salt type: normal (the default), norealm, onlyrealm.
	Salt string
	// Flags are in kadmin's spelling: +ok_as_delegate, -allow_forwardable,
	// +needchange, -allow_tix, +ok_to_auth_as_delegate, -requires_preauth.
	Flags []string
	// Policy is the name of one of MITOptions.Policies.
	Policy string
	// MaxLife and MaxRenewLife bound its tickets, in whole seconds; zero: the
	// realm's.
	MaxLife, MaxRenewLife time.Duration
	// Expires and PasswordExpires are set if not zero.
	Expires, PasswordExpires time.Time
}

// addprinc returns the query that adds the principal.
func (p Principal) addprinc(realmTypes []string) string {
	args := []string{"addprinc"}
	if p.Password != "" {
		args = append(args, "+requires_preauth", "-pw", quote(p.Password))
	} else {
		args = append(args, "-randkey")
	}
	types, salt := p.ETypes, p.Salt
	if salt == "" {
		salt = "normal"
	}
	if len(types) == 0 {
		types = realmTypes
	}
	args = append(args, "-e", quote(keySalts(types, salt)))
	args = append(args, p.Flags...)
	if p.Policy != "" {
		args = append(args, "-policy", quote(p.Policy))
	}
	if p.MaxLife != 0 {
		args = append(args, "-maxlife", quote(seconds(p.MaxLife)))
	}
	if p.MaxRenewLife != 0 {
		args = append(args, "-maxrenewlife", quote(seconds(p.MaxRenewLife)))
	}
	if !p.Expires.IsZero() {
		args = append(args, "-expire", quote(date(p.Expires)))
	}
	if !p.PasswordExpires.IsZero() {
		args = append(args, "-pwexpire", quote(date(p.PasswordExpires)))
	}
	return strings.Join(append(args, quote(p.Name)), " ")
}

// quote returns s as one word for kadmin.
func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func seconds(d time.Duration) string { return fmt.Sprintf("%ds", int64(d/time.Second)) }

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func keySalts(types []string, salt string) string {
	pairs := make([]string, len(types))
	for i, e := range types {
		pairs[i] = e + ":" + salt
	}
	return strings.Join(pairs, " ")
}
