package diagnosis

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// refused is a KDC's refusal of an operation.
func refused(op krb5core.Op, code messages.ErrorCode, status messages.NTStatus) *krb5core.Error {
	k := &messages.KRBError{ErrorCode: code, Realm: "CORP.EXAMPLE"}
	return &krb5core.Error{Op: op, Refused: true, Confirmed: true, Code: code, Status: status, Service: "HTTP/web.corp.example@CORP.EXAMPLE", Err: k}
}

// referredTo is the error of a login that was referred to a realm that is not configured.
func referredTo(realm string) error {
	e := refused(krb5core.OpLogin, messages.KDC_ERR_WRONG_REALM, 0)
	e.Err = fmt.Errorf("%w: %w", e.Err, &exchange.UnconfiguredRealmError{Realm: realm})
	return e
}

// Each refusal of a certificate has a remedy of its own, and none speaks of a password.
func TestOf_Certificate(t *testing.T) {
	login := func(err error) error { return &negotiate.LoginError{Kind: negotiate.KindCertificate, Err: err} }
	for want, err := range map[string]error{
		"pkinit_anchors":     login(refused(krb5core.OpLogin, messages.KDC_ERR_CANT_VERIFY_CERTIFICATE, 0)),
		"has expired or is":  login(refused(krb5core.OpLogin, messages.KDC_ERR_INVALID_CERTIFICATE, 0)),
		"have a new one":     login(refused(krb5core.OpLogin, messages.KDC_ERR_REVOKED_CERTIFICATE, 0)),
		"current CRL":        login(refused(krb5core.OpLogin, messages.KDC_ERR_REVOCATION_STATUS_UNKNOWN, 0)),
		"pkinit_cert_match":  login(refused(krb5core.OpLogin, messages.KDC_ERR_CLIENT_NAME_MISMATCH, 0)),
		"1.3.6.1.5.2.3.4":    login(refused(krb5core.OpLogin, messages.KDC_ERR_INCONSISTENT_KEY_PURPOSE, 0)),
		"without a reason":   login(refused(krb5core.OpLogin, messages.KRB_AP_ERR_BAD_INTEGRITY, 0)),
		"does not offer":     login(&krb5core.Error{Op: krb5core.OpLogin, Err: &exchange.PreAuthError{}}),
		"another realm's":    login(&krb5core.Error{Op: krb5core.OpLogin, Err: &pkinit.CertificateError{Err: pkinit.ErrOtherRealm}}),
		"names krbtgt/REALM": login(&krb5core.Error{Op: krb5core.OpLogin, Err: &pkinit.CertificateError{Err: pkinit.ErrNotKDC}}),
		"pkinit_ca":          login(&krb5core.Error{Op: krb5core.OpLogin, Err: &pkinit.CertificateError{Err: x509.UnknownAuthorityError{}}}),
		"allow_weak_crypto":  login(&krb5core.Error{Op: krb5core.OpLogin, Err: pkinit.ErrWeakGroup}),
		"its log says why":   login(&krb5core.Error{Op: krb5core.OpLogin, Err: negotiate.ErrNoCertificate}),
		"fast_armor keytab":  &krb5core.Error{Op: krb5core.OpArmor, Client: "WELLKNOWN/ANONYMOUS@X", Refused: true, Code: messages.KDC_ERR_C_PRINCIPAL_UNKNOWN, Err: &messages.KRBError{}},
	} {
		d := Of(err)
		if d.Status != http.StatusBadGateway || !strings.Contains(d.Remedy, want) || len(d.Causes) != 1 {
			t.Errorf("%v: %+v, want %q", err, d, want)
		}
	}
}

func TestOf(t *testing.T) {
	noAnswer := &kdc.UnreachableError{Realm: "CORP.EXAMPLE", Cause: kdc.ErrNoAnswer}
	for name, x := range map[string]struct {
		err    error
		status int
		word   Word
		local  bool
	}{
		"panic in a fetch": {&cache.PanicError{Value: "oops"}, http.StatusInternalServerError, Internal, true},
		"method":           {negotiate.ErrMethodRefused, http.StatusMethodNotAllowed, MethodRefused, true},
		"SPN not allowed":  {fmt.Errorf("%w: HTTP/x", negotiate.ErrSPNNotAllowed), http.StatusForbidden, SPNNotAllowed, true},
		"throttled":        {&negotiate.ThrottledError{}, http.StatusServiceUnavailable, UnknownService, true},
		"malformed SPN":    {negotiate.ErrSPN, http.StatusBadRequest, BadSPN, true},
		"upstream's name":  {errors.Join(negotiate.ErrUpstreamName, negotiate.ErrSPN), http.StatusBadGateway, BadSPN, true},
		"no user":          {negotiate.ErrUserMissing, http.StatusForbidden, UserMissing, true},
		"user denied":      {negotiate.ErrUserDenied, http.StatusForbidden, UserDenied, true},
		"no account":       {fmt.Errorf("%w: aes256", negotiate.ErrAccountUnknown), http.StatusForbidden, UserDenied, true},
		"user not proven":  {&krb5core.Error{Op: krb5core.OpS4USelf, Err: exchange.ErrUserNotProven}, http.StatusForbidden, DelegationRefused, true},
		"no user name":     {krb5core.ErrEndUser, http.StatusForbidden, UserUnknown, true},
		"no binding":       {negotiate.ErrNoBinding, http.StatusBadGateway, ChannelBindingFailed, true},
		"mutual auth":      {fmt.Errorf("%w: no proof", negotiate.ErrMutualAuth), http.StatusBadGateway, MutualAuthFailed, true},
		"etypes":           {&krb5core.Error{Op: krb5core.OpService, Err: &exchange.ETypeError{}}, http.StatusBadGateway, NoCommonEType, true},
		"no FAST":          {&krb5core.Error{Op: krb5core.OpLogin, Err: &exchange.UnarmoredError{Err: &messages.KRBError{}}}, http.StatusBadGateway, CredentialsRefused, true},
		"second factor":    {&krb5core.Error{Op: krb5core.OpLogin, Err: exchange.ErrSecondFactor}, http.StatusBadGateway, CredentialsRefused, true},
		"other user":       {&krb5core.Error{Op: krb5core.OpS4USelf, Err: &exchange.ReplyError{Field: "cname"}}, http.StatusForbidden, UserUnknown, true},
		"wrong key":        {&krb5core.Error{Op: krb5core.OpLogin, Err: &exchange.WrongKeyError{}}, http.StatusBadGateway, CredentialsRefused, true},
		"ccache":           {&krb5core.Error{Op: krb5core.OpLogin, Err: negotiate.ErrCCache}, http.StatusBadGateway, CredentialsMissing, true},
		"breaker":          {&negotiate.RefusedError{Err: refused(krb5core.OpLogin, messages.KDC_ERR_PREAUTH_FAILED, 0)}, http.StatusBadGateway, CredentialsRefused, true},
		"silent breaker":   {&negotiate.RefusedError{Err: &krb5core.Error{Op: krb5core.OpLogin, Err: noAnswer}}, http.StatusServiceUnavailable, KDCUnreachable, true},
		"another realm":    {referredTo("X.EXAMPLE"), http.StatusBadGateway, CredentialsRefused, true},
		"unknown service":  {refused(krb5core.OpService, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN, 0), http.StatusBadGateway, UnknownService, true},
		"SPN not unique":   {refused(krb5core.OpService, messages.KDC_ERR_PRINCIPAL_NOT_UNIQUE, 0), http.StatusBadGateway, UnknownService, true},
		"another code":     {refused(krb5core.OpService, messages.KRB_ERR_GENERIC, 0), http.StatusBadGateway, UnknownService, true},
		"login, other":     {refused(krb5core.OpLogin, messages.KDC_ERR_PRINCIPAL_NOT_UNIQUE, 0), http.StatusBadGateway, CredentialsRefused, true},
		"key of a service": {refused(krb5core.OpService, messages.KRB_AP_ERR_BAD_INTEGRITY, 0), http.StatusBadGateway, UnknownService, true},
		"KDC busy":         {refused(krb5core.OpLogin, messages.KDC_ERR_SVC_UNAVAILABLE, 0), http.StatusServiceUnavailable, KDCUnreachable, true},
		"unknown user":     {refused(krb5core.OpS4USelf, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN, 0), http.StatusForbidden, UserUnknown, true},
		"disabled user":    {refused(krb5core.OpS4UProxy, messages.KDC_ERR_CLIENT_REVOKED, 0), http.StatusForbidden, UserDenied, true},
		"no own SPN":       {refused(krb5core.OpS4USelf, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN, 0), http.StatusForbidden, DelegationRefused, true},
		"no target":        {refused(krb5core.OpS4UProxy, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN, 0), http.StatusBadGateway, UnknownService, true},
		"not delegable":    {refused(krb5core.OpS4UProxy, messages.KDC_ERR_BADOPTION, 0), http.StatusForbidden, DelegationRefused, true},
		"no KDC":           {noAnswer, http.StatusServiceUnavailable, KDCUnreachable, true},
		"exchange failed":  {&krb5core.Error{Op: krb5core.OpLogin, Err: errors.New("oops")}, http.StatusServiceUnavailable, KDCUnreachable, true},
		"client gone":      {context.Canceled, clientClosedRequest, "", false},
		"anything else":    {errors.New("connection reset"), http.StatusServiceUnavailable, KDCUnreachable, false},
	} {
		got := Of(x.err)
		if got.Status != x.status || got.Word != x.word || got.Local != x.local || got.Remedy == "" != (x.word == "") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestOf_AccountsHaveTheirOwnRemedy(t *testing.T) {
	seen := make(map[string]string)
	for name, x := range map[string]struct {
		code   messages.ErrorCode
		status messages.NTStatus
		want   string
	}{
		"unknown":                 {messages.KDC_ERR_C_PRINCIPAL_UNKNOWN, 0, "does not know the account, or demands canonicalization"},
		"wrong password":          {messages.KDC_ERR_PREAUTH_FAILED, 0, "wrong password"},
		"MIT: disabled or locked": {messages.KDC_ERR_CLIENT_REVOKED, 0, "disabled, locked or expired"},
		"MIT: password expired":   {messages.KDC_ERR_KEY_EXPIRED, 0, "expired or must be changed"},
		"disabled":                {messages.KDC_ERR_CLIENT_REVOKED, messages.STATUS_ACCOUNT_DISABLED, "Enable-ADAccount"},
		"disabled, as Heimdal":    {messages.KDC_ERR_POLICY, 0, "policy forbids"},
		"locked":                  {messages.KDC_ERR_CLIENT_REVOKED, messages.STATUS_ACCOUNT_LOCKED_OUT, "Unlock-ADAccount"},
		"expired":                 {messages.KDC_ERR_CLIENT_REVOKED, messages.STATUS_ACCOUNT_EXPIRED, "Clear-ADAccountExpiration"},
		"password expired":        {messages.KDC_ERR_KEY_EXPIRED, messages.STATUS_PASSWORD_EXPIRED, "PasswordNeverExpires"},
		"must change":             {messages.KDC_ERR_KEY_EXPIRED, messages.STATUS_PASSWORD_MUST_CHANGE, "ChangePasswordAtLogon"},
		"logon hours":             {messages.KDC_ERR_CLIENT_REVOKED, messages.STATUS_INVALID_LOGON_HOURS, "logonHours"},
		"armor":                   {messages.KDC_ERR_POLICY, messages.STATUS_ACCOUNT_RESTRICTION, "fast_armor"},
	} {
		got := Of(refused(krb5core.OpLogin, x.code, x.status))
		if got.Status != http.StatusBadGateway || got.Word != CredentialsRefused || !strings.Contains(got.Remedy, x.want) {
			t.Errorf("%s: %+v, want %q", name, got, x.want)
		}
		if other, twice := seen[got.Remedy]; twice {
			t.Errorf("%s and %s have one remedy: %s", name, other, got.Remedy)
		}
		seen[got.Remedy] = name
	}
}

func TestOf_ServicePrincipalIsNoLoginName(t *testing.T) {
	for client, want := range map[string]bool{"HTTP/proxy.corp.example@CORP.EXAMPLE": true, "svc-proxy@CORP.EXAMPLE": false} {
		e := refused(krb5core.OpLogin, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN, 0)
		e.Client = client
		if got := Of(e).Remedy; strings.Contains(got, "no login name") != want {
			t.Errorf("%s: %s", client, got)
		}
	}
}

func TestOf_RemedyNamesTheSecret(t *testing.T) {
	for kind, setting := range map[negotiate.SecretKind]string{
		negotiate.KindKeytab: "keytab", negotiate.KindPassword: "password", negotiate.KindPasswordFile: "password_file",
	} {
		login := func(err error) error { return &negotiate.LoginError{Kind: kind, Err: err} }
		errs := []error{login(exchange.ErrNoKey), login(refused(krb5core.OpLogin, messages.KDC_ERR_KEY_EXPIRED, 0))}
		for code, status := range map[messages.ErrorCode]messages.NTStatus{
			messages.KDC_ERR_PREAUTH_FAILED: 0,
			messages.KDC_ERR_KEY_EXPIRED:    messages.STATUS_PASSWORD_EXPIRED,
			messages.KDC_ERR_CLIENT_REVOKED: messages.STATUS_PASSWORD_MUST_CHANGE,
			messages.KDC_ERR_NAME_EXP:       messages.STATUS_PASSWORD_EXPIRED,
		} {
			e := refused(krb5core.OpLogin, code, status)
			e.Salt, e.HasSalt = "CORP.EXAMPLEsvc-proxy", true
			errs = append(errs, &negotiate.RefusedError{Err: login(e)})
		}
		for _, err := range errs {
			remedy := Of(err).Remedy
			ofKeytab := strings.Contains(remedy, "keytab") || strings.Contains(remedy, "salt")
			if !strings.Contains(remedy, setting) || ofKeytab && kind != negotiate.KindKeytab {
				t.Errorf("%s: %v: %s", kind, err, remedy)
			}
		}
	}
}

func TestOf_SpecialRemedies(t *testing.T) {
	foreign := refused(krb5core.OpS4USelf, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN, 0)
	foreign.Err = &messages.KRBError{ErrorCode: foreign.Code, SName: messages.NewPrincipalName(messages.KRB_NT_SRV_INST, "krbtgt", "B.EXAMPLE")}
	salted := refused(krb5core.OpLogin, messages.KDC_ERR_PREAUTH_FAILED, 0)
	salted.Salt, salted.HasSalt = "CORP.EXAMPLEold-name", true
	armor := &negotiate.LoginError{Kind: negotiate.KindPassword, Err: refused(krb5core.OpArmor, messages.KDC_ERR_PREAUTH_FAILED, 0)}
	short := &krb5core.Error{Op: krb5core.OpLogin, Client: "svc-proxy@CORP", Err: &exchange.ReplyError{Field: "crealm", Want: "CORP", Got: "CORP.EXAMPLE"}}
	shortReferred := &krb5core.Error{Op: krb5core.OpLogin, Client: "svc-proxy@CORP", Err: &exchange.UnconfiguredRealmError{Realm: "X.EXAMPLE"}}
	misspelt := &krb5core.Error{Op: krb5core.OpLogin, Err: &kdc.UnreachableError{Attempts: []kdc.Attempt{{Err: &net.DNSError{Name: "dc1.corp.exmaple", IsNotFound: true}}}}}
	for want, x := range map[string]struct {
		err  error
		word Word
	}{
		"Write user svc-proxy@CORP.EXAMPLE":   {short, CredentialsRefused},
		"realm CORP.EXAMPLE { netbios CORP }": {short, CredentialsRefused},
		"realm X.EXAMPLE { netbios CORP }":    {shortReferred, CredentialsRefused},
		"dc1.corp.exmaple is not in the DNS":  {misspelt, KDCUnreachable},
		"netbios":                             {foreign, UserUnknown},
		`"CORP.EXAMPLEold-name"`:              {salted, CredentialsRefused},
		"realm X.EXAMPLE { }":                 {referredTo("X.EXAMPLE"), CredentialsRefused},
		"keytab":                              {armor, CredentialsRefused}, // not the account's password
	} {
		if got := Of(x.err); got.Word != x.word || !strings.Contains(got.Remedy, want) {
			t.Errorf("want %s: %+v", want, got)
		}
	}
}

func TestOfRefusal(t *testing.T) {
	for code, cause := range map[messages.ErrorCode]Cause{
		messages.KRB_AP_ERR_MODIFIED:    CauseSPNOnOtherAccount,
		messages.KRB_AP_ERR_TKT_EXPIRED: CauseClock,
		messages.KRB_AP_ERR_NOT_US:      CauseUnknownSPN,
		messages.KRB_AP_ERR_REPEAT:      "",
		messages.KRB_ERR_GENERIC:        "",
	} {
		got := OfRefusal(negotiate.Verdict{Error: &messages.KRBError{ErrorCode: code}})
		if got.Word != TokenRefused || got.Status != http.StatusUnauthorized || cause != "" && !slices.Contains(got.Causes, cause) || cause == "" && got.Causes != nil {
			t.Errorf("%s: %+v", code, got)
		}
	}
	if got := OfRefusal(negotiate.Verdict{}); !strings.Contains(got.Remedy, "no reason") {
		t.Errorf("%+v", got)
	}
}

func TestRules(t *testing.T) {
	for _, r := range slices.Concat(rules, upstreamRules) {
		if (r.remedy == "" && r.remedyOf == nil) != (r.word == "") || r.status == 0 && statuses[r.word] == 0 {
			t.Errorf("%q: a word needs a status and a remedy", r.word)
		}
	}
	for word := range statuses {
		if !slices.ContainsFunc(slices.Concat(rules, upstreamRules), func(r rule) bool { return r.word == word }) {
			t.Errorf("no rule has %s", word)
		}
	}
}

func TestKeyEvidence(t *testing.T) {
	who := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "svc-proxy"), Realm: "CORP.EXAMPLE"}
	d := Of(refused(krb5core.OpLogin, messages.KDC_ERR_PREAUTH_FAILED, 0))
	for name, x := range map[string]struct {
		evidence KeyEvidence
		causes   []Cause
		remedy   string
	}{
		"password": {KeyEvidence{Kind: negotiate.KindPasswordFile, Principal: who}, []Cause{CauseWrongPassword}, "Set-ADAccountPassword svc-proxy"},
		"version":  {KeyEvidence{Kind: negotiate.KindKeytab, Principal: who, Held: 3, KDC: 4}, []Cause{CauseKeytabVersion}, "ktpass"},
		"unknown":  {KeyEvidence{Kind: negotiate.KindKeytab, Principal: who, Held: 3, Salt: "old"}, []Cause{CauseKeytabVersion, CauseKeytabSalt, CauseWrongPassword}, `--salt "old"`},
	} {
		if got := x.evidence.Narrow(d); !slices.Equal(got.Causes, x.causes) || !strings.Contains(got.Remedy, x.remedy) || got.Word != CredentialsRefused {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestDelegationEvidence(t *testing.T) {
	for _, x := range []struct {
		evidence DelegationEvidence
		causes   []Cause
	}{
		{DelegationEvidence{UserForwardable: true}, []Cause{CauseNotInDelegationList}},
		{DelegationEvidence{OwnKnown: true, OwnForwardable: true}, []Cause{CauseUserNotDelegable}},
		{DelegationEvidence{OwnKnown: true}, []Cause{CauseAccountNotTrusted, CauseUserNotDelegable}},
		{DelegationEvidence{}, []Cause{CauseAccountNotTrusted, CauseUserNotDelegable}},
	} {
		if got := x.evidence.Narrow(Diagnosis{}); !slices.Equal(got.Causes, x.causes) || got.Remedy == "" {
			t.Errorf("%+v: %+v", x.evidence, got)
		}
	}
}
