package diagnosis

import (
	"cmp"
	"errors"
	"slices"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// Diagnosis is what clients and operators see of an error.
type Diagnosis struct {
	// Status is the HTTP status of the response.
	Status int
	// Word is the value of {http.negotiate.error}. It is empty if the client went away.
	Word Word
	// Causes are those that are possible; none if the error names no known one.
	Causes []Cause
	// Remedy says what an operator can do. It is empty if the client went away.
	Remedy string
	// Local reports whether the plugin failed, for example to get a ticket, rather than
	// the connection to the upstream.
	Local bool
}

// Of diagnoses an error.
func Of(err error) Diagnosis { return newFailure(err).diagnose(rules) }

// OfRefusal diagnoses an upstream's refusal of a token.
func OfRefusal(v negotiate.Verdict) Diagnosis {
	f := new(failure)
	if v.Error != nil {
		f.code, f.refused = v.Error.Code(), true
	}
	return f.diagnose(upstreamRules)
}

// All lists what the rules make of errors, without remedies that depend on the error.
func All() []Diagnosis {
	all := make([]Diagnosis, 0, len(rules)+len(upstreamRules))
	for _, r := range slices.Concat(rules, upstreamRules) {
		all = append(all, r.diagnosis())
	}
	return all
}

// failure is an error, unwrapped once for all rules.
type failure struct {
	err     error
	refused bool               // a KDC or an upstream answered with code
	code    messages.ErrorCode // valid if refused
	kdc     *krb5core.Error    // the exchange that failed; nil if none did
	// kind is that of the secret that a login failed with; empty if it is not known, or
	// if the armor's login failed.
	kind negotiate.SecretKind
}

func newFailure(err error) *failure {
	f := &failure{err: err}
	if f.kdc, _ = errors.AsType[*krb5core.Error](err); f.kdc != nil {
		f.code, f.refused = f.kdc.Code, f.kdc.Refused
		if f.kdc.Op == krb5core.OpArmor {
			return f
		}
	}
	if login, ok := errors.AsType[*negotiate.LoginError](err); ok {
		f.kind = login.Kind
	}
	return f
}

// diagnose takes the first rule that matches; the last one always does.
func (f *failure) diagnose(rules []rule) Diagnosis {
	r := rules[slices.IndexFunc(rules, func(r rule) bool { return r.match(f) })]
	d := r.diagnosis()
	if r.remedyOf != nil {
		d.Remedy = r.remedyOf(f)
	}
	return d
}

func (r rule) diagnosis() Diagnosis {
	return Diagnosis{Status: cmp.Or(r.status, statuses[r.word]), Word: r.word, Causes: r.causes, Remedy: r.remedy, Local: !r.remote}
}
