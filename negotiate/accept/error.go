package accept

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Reason is why a token is refused.
type Reason int

// The reasons.
const (
	_                Reason = iota
	Malformed               // it cannot be read, or is too long
	NTLM                    // it is NTLM, or nothing but NTLM is offered
	OtherMechanism          // it is of a mechanism, or scheme, that is neither
	NotPreferred            // the client prefers another mechanism and offers Kerberos too
	NotFirst                // it continues a negotiation that was not begun here
	NoToken                 // the client offers Kerberos without a token
	UserToUser              // the ticket is under the session key of another
	WrongService            // the ticket is for another service
	WeakEType               // the ticket or its session key is of a type that is not allowed
	NoKey                   // there is no key of the ticket's type
	UnknownVersion          // there is a key of its type and none of its version
	WrongKey                // no key opens the ticket
	BadAuthenticator        // the session key does not open the authenticator
	Mismatch                // ticket and authenticator are of different clients
	Skew                    // the clocks differ too much
	NotYetValid             // the ticket is not valid yet
	Expired                 // the ticket has ended
	Anonymous               // the ticket names no client
	BadAddress              // the ticket is for other network addresses
	BadPath                 // the realms between the client's and the service's are not verified
	NoChecksum              // the authenticator is not for GSS-API
	BadChecksum             // its checksum cannot be read
	NoBindings              // channel bindings are required, and the connection has none
	BindingsMissing         // the client has sent no channel bindings and should have
	BindingsWrong           // the client's channel bindings are another connection's
	BadPAC                  // the PAC cannot be read or is not signed for the ticket
	BadMIC                  // the list of mechanisms was changed on its way
	Replay                  // the token came before
	BeforeStart             // the token may have come before: what was accepted then is not known
	ReplaysFull             // no further token can be remembered
	Internal                // the acceptor itself failed
)

var reasons = map[Reason]struct {
	word string
	code messages.ErrorCode // of the KRB-ERROR; 0 for none
	text string
}{
	Malformed:        {"malformed", 0, "token cannot be read or is too long"},
	NTLM:             {"ntlm", 0, "client uses NTLM, not Kerberos"},
	OtherMechanism:   {"other_mechanism", 0, "client uses neither Kerberos nor SPNEGO"},
	NotPreferred:     {"not_preferred", 0, "client prefers another mechanism to Kerberos"},
	NotFirst:         {"not_first", 0, "token continues a negotiation that was not begun"},
	NoToken:          {"no_token", 0, "client offers Kerberos and sends no token of it"},
	UserToUser:       {"user_to_user", messages.KRB_AP_ERR_NOKEY, "ticket is for user-to-user authentication"},
	WrongService:     {"wrong_service", messages.KRB_AP_ERR_NOT_US, "ticket is for another service"},
	WeakEType:        {"weak_etype", messages.KDC_ERR_ETYPE_NOSUPP, "encryption type of the ticket is not allowed"},
	NoKey:            {"no_key", messages.KRB_AP_ERR_NOKEY, "no key of the ticket's encryption type"},
	UnknownVersion:   {"unknown_kvno", messages.KRB_AP_ERR_BADKEYVER, "no key of the ticket's version"},
	WrongKey:         {"wrong_key", messages.KRB_AP_ERR_MODIFIED, "no key opens the ticket"},
	BadAuthenticator: {"bad_authenticator", messages.KRB_AP_ERR_MODIFIED, "authenticator does not open"},
	Mismatch:         {"mismatch", messages.KRB_AP_ERR_BADMATCH, "authenticator is of another client than the ticket"},
	Skew:             {"skew", messages.KRB_AP_ERR_SKEW, "clocks of client and server differ too much"},
	NotYetValid:      {"not_yet_valid", messages.KRB_AP_ERR_TKT_NYV, "ticket is not valid yet"},
	Expired:          {"expired", messages.KRB_AP_ERR_TKT_EXPIRED, "ticket has expired"},
	Anonymous:        {"anonymous", messages.KRB_ERR_GENERIC, "ticket is of an anonymous client"},
	BadAddress:       {"bad_address", messages.KRB_AP_ERR_BADADDR, "ticket is for other addresses than the client's"},
	BadPath:          {"bad_path", messages.KRB_AP_PATH_NOT_ACCEPTED, "KDC has not verified the realms that the ticket passed"},
	NoChecksum:       {"no_checksum", messages.KRB_AP_ERR_INAPP_CKSUM, "authenticator has no checksum of GSS-API"},
	BadChecksum:      {"bad_checksum", messages.KRB_AP_ERR_BAD_INTEGRITY, "checksum of the authenticator cannot be read"},
	NoBindings:       {"no_bindings", messages.KRB_ERR_GENERIC, "channel bindings are required and the connection has none"},
	BindingsMissing:  {"bindings_missing", messages.KRB_ERR_GENERIC, "client has sent no channel bindings"},
	BindingsWrong:    {"bindings_wrong", messages.KRB_ERR_GENERIC, "channel bindings are of another connection"},
	BadPAC:           {"bad_pac", messages.KRB_AP_ERR_BAD_INTEGRITY, "PAC of the ticket is not good"},
	BadMIC:           {"bad_mic", 0, "list of mechanisms was changed on its way"},
	Replay:           {"replay", messages.KRB_AP_ERR_REPEAT, "token came before"},
	BeforeStart:      {"before_start", messages.KRB_AP_ERR_SKEW, "token is older than what the replay cache knows"},
	ReplaysFull:      {"replays_full", messages.KDC_ERR_SVC_UNAVAILABLE, "replay cache is full"},
	Internal:         {"internal", messages.KRB_ERR_GENERIC, "acceptor failed"},
}

// String is the reason in a word, for logs and metrics.
func (r Reason) String() string { return reasons[r].word }

// OfKeys reports whether another key of the account could open the ticket.
func (r Reason) OfKeys() bool { return r == NoKey || r == UnknownVersion || r == WrongKey }

// Error is why a token is refused, with what was known by then.
type Error struct {
	Reason  Reason
	Service messages.Principal // of the ticket, as it says; zero if that was not read
	EType   enctype.ID         // of the ticket
	KVNO    uint32             // of the ticket; 0 if it has none
	Client  messages.Principal // zero unless the ticket was opened
	Offset  time.Duration      // the client's clock minus the acceptor's; 0 unless the authenticator was opened
	Err     error              // the cause; may be nil
	// Token is the answer that RFC 4178 and RFC 4121 have for it, a KRB-ERROR; nil if there is none.
	// It is the caller's choice whether to send it.
	Token []byte
}

// Code is the error code of the KRB-ERROR, 0 for a token that is not Kerberos.
func (e *Error) Code() messages.ErrorCode { return reasons[e.Reason].code }

// Error returns the reason and the cause.
func (e *Error) Error() string {
	text := reasons[e.Reason].text
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func refuse(r Reason) *Error { return &Error{Reason: r} }

func because(r Reason, err error) *Error { return &Error{Reason: r, Err: err} }
