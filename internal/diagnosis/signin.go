package diagnosis

import (
	"errors"
	"net/http"
	"slices"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
)

// SignIn is what becomes of a client's token.
type SignIn struct {
	// Reason is why it is refused; 0 for what has nothing to do with the token.
	Reason accept.Reason
	// Status is the HTTP status of the answer.
	Status int
	// Result is how it is counted.
	Result SignInResult
	// Remedy says what an operator can do.
	Remedy string
}

// SignInResult is how an attempt to sign in is counted.
type SignInResult string

// The results.
const (
	SignedIn      SignInResult = "ok"
	BySession     SignInResult = "session"      // by a cookie, without a token
	WithoutToken  SignInResult = "no_token"     // the client was asked for one
	NotKerberos   SignInResult = "not_kerberos" // NTLM, or a scheme that is not Negotiate
	BadToken      SignInResult = "bad_token"
	Replayed      SignInResult = "replay"
	WrongClock    SignInResult = "clock"
	WrongBindings SignInResult = "bad_binding"
	Denied        SignInResult = "denied"    // by realms or groups
	Unverified    SignInResult = "throttled" // the token was not judged: 429 or 503
)

// SignInResults lists the results.
func SignInResults() []SignInResult {
	return []SignInResult{SignedIn, BySession, WithoutToken, NotKerberos, BadToken, Replayed, WrongClock, WrongBindings, Denied, Unverified}
}

// OfSignIn diagnoses why a client could not sign in. The error is an *accept.Error, or says why the
// account's keys cannot be had.
func OfSignIn(err error) SignIn {
	e, ok := errors.AsType[*accept.Error](err)
	if !ok {
		return SignIn{Status: http.StatusServiceUnavailable, Result: Unverified, Remedy: Of(err).Remedy}
	}
	for _, s := range signIns {
		if s.Reason == e.Reason {
			return s
		}
	}
	return SignIn{Reason: e.Reason, Status: http.StatusUnauthorized, Result: BadToken, Remedy: "see reason"}
}

// Counts reports whether the token counts as one that failed (package signin, Throttle): it was
// read as Kerberos, and judging it took work.
func (s SignIn) Counts() bool {
	return slices.Contains([]SignInResult{BadToken, Replayed, WrongClock, WrongBindings}, s.Result)
}

// SignIns lists what becomes of refused tokens.
func SignIns() []SignIn { return slices.Clone(signIns) }

const (
	remedyNTLM = "the browser fell back to NTLM: the client must be in the domain or have a ticket, be configured to use Kerberos for this site, and call it " +
		"by the name of the service principal, not by an address (klist get HTTP/host shows whether it gets a ticket)"
	remedyServiceKey = "the KDC encrypts tickets for the service with a key that is not here: is the service principal on this account, and only there " +
		"(AD: setspn -Q HTTP/host)? Export the keytab again after each change of the password, or write the new password"
	remedyClientClock = "synchronize the clocks of the client, of this machine and of the KDC; offset is the client's clock minus ours (Windows: w32tm /resync; elsewhere: chronyc makestep)"
	remedyBindings    = "the client's TLS connection does not end at this Caddy: something in between terminates TLS. If it is your own, set channel_binding cert FILE with its certificate, " +
		"or channel_binding off"
	remedyBroken = "a client that does not follow the protocol, or an attack: find out what client_ip is"
)

var signIns = []SignIn{
	{accept.Malformed, http.StatusUnauthorized, BadToken, remedyBroken},
	{accept.NTLM, http.StatusUnauthorized, NotKerberos, remedyNTLM},
	{accept.OtherMechanism, http.StatusUnauthorized, NotKerberos, "only Kerberos signs in here: let other clients use another site or path, or choose by a matcher (negotiate_auth @domain, basic_auth @others)"},
	{accept.NotPreferred, http.StatusUnauthorized, NotKerberos, "the client prefers NTLM to Kerberos: " + remedyNTLM},
	{accept.NotFirst, http.StatusUnauthorized, BadToken, remedyBroken},
	{accept.NoToken, http.StatusUnauthorized, WithoutToken, "the client offers Kerberos and has no ticket: is it logged in to the domain (klist), does its KDC know the service principal?"},
	{accept.UserToUser, http.StatusUnauthorized, BadToken, "the KDC issues user-to-user tickets for the service only: give the account a service principal (AD: setspn -S HTTP/host ACCOUNT)"},
	{accept.WrongService, http.StatusUnauthorized, BadToken, "the client has a ticket for another name than those accepted here: add it to spn, or let the client use the service's own name"},
	{
		accept.WeakEType, http.StatusUnauthorized, BadToken,
		"the KDC issues tickets for the service with a weak key: let the account have AES keys (AD: Set-ADUser ACCOUNT -KerberosEncryptionType AES128,AES256, then set its password again), " +
			"or name the type in encryption_types",
	},
	{
		accept.NoKey, http.StatusUnauthorized, BadToken,
		"the keytab has no key of the ticket's encryption type: export it with all types of the account (AD: ktpass /crypto ALL; MIT: kadmin ktadd)",
	},
	{accept.UnknownVersion, http.StatusUnauthorized, BadToken, "the keytab lacks the key version of the ticket: export it again; if it is newer than the ticket, the client gets a new ticket with klist purge"},
	{accept.WrongKey, http.StatusUnauthorized, BadToken, remedyServiceKey},
	{accept.BadAuthenticator, http.StatusUnauthorized, BadToken, remedyBroken},
	{accept.Mismatch, http.StatusUnauthorized, BadToken, remedyBroken},
	{accept.Skew, http.StatusUnauthorized, WrongClock, remedyClientClock},
	{accept.NotYetValid, http.StatusUnauthorized, WrongClock, "the clock of the KDC is ahead, or the ticket is postdated: synchronize the clocks of this machine and of the KDC"},
	{accept.Expired, http.StatusUnauthorized, BadToken, "the client uses a ticket that has ended: let it get a new one (Windows does by itself; elsewhere kinit)"},
	{accept.Anonymous, http.StatusUnauthorized, BadToken, "log in by name: anonymous tickets say nothing of the user"},
	{accept.BadAddress, http.StatusUnauthorized, BadToken, "the ticket is for addresses that client_ip is not among: get tickets without addresses (krb5.conf: noaddresses), and set trusted_proxies if a proxy is in front"},
	{accept.BadPath, http.StatusUnauthorized, BadToken, "the KDC of this realm has not checked which realms the ticket passed: let it (MIT: reject_bad_transit), or list the path in its capaths"},
	{accept.NoChecksum, http.StatusUnauthorized, BadToken, "the client does not use GSS-API, as RFC 4559 demands"},
	{accept.BadChecksum, http.StatusUnauthorized, BadToken, remedyBroken},
	{accept.NoBindings, http.StatusUnauthorized, WrongBindings, "channel_binding required works over TLS only: use https, or channel_binding cert FILE behind a TLS terminator"},
	{accept.BindingsMissing, http.StatusUnauthorized, WrongBindings, "the client sends no channel bindings: update it, or set channel_binding auto (Firefox and old curl send none); " +
		"if auto refuses it, its system says that it knows them: set off"},
	{accept.BindingsWrong, http.StatusUnauthorized, WrongBindings, remedyBindings},
	{accept.BadPAC, http.StatusUnauthorized, BadToken, "the PAC is not signed with the account's key: is another computer's keytab in use, or was the ticket changed on its way?"},
	{accept.BadMIC, http.StatusUnauthorized, BadToken, "the client's list of mechanisms was changed on its way: find out by what"},
	{accept.Replay, http.StatusUnauthorized, Replayed, "a token is good once: something in between sends requests twice, or someone has copied the token"},
	{
		accept.BeforeStart, http.StatusUnauthorized, Replayed,
		"the client's clock says that the token was made before Caddy started, and may have been used then: it ends by itself when the client sends a new one; offset is its clock minus ours",
	},
	{accept.ReplaysFull, http.StatusServiceUnavailable, Unverified, "more clients sign in within ten minutes than the replay cache holds: set session, so that a user needs one token and not one a request"},
	{accept.Internal, http.StatusServiceUnavailable, Unverified, "this is a bug in the plugin: report it with the error from the log"},
}
