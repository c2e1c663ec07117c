package negotiate

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
)

// MutualAuth says what an upstream has to prove.
type MutualAuth int

// The settings of mutual authentication.
const (
	MutualAuthOff      MutualAuth = iota // tokens ask for no proof
	MutualAuthOn                         // a wrong proof fails the request
	MutualAuthRequired                   // a missing proof does, too
)

// AttemptConfig is what the attempts of one block of the configuration have in common.
type AttemptConfig struct {
	Initiator  *Initiator
	Delegation Delegation
	MutualAuth MutualAuth
	// Raw sends the Kerberos token without SPNEGO.
	Raw bool
	// Admit checks the client and the account of an impersonated user's ticket, as the
	// KDC names them. It returns an error that wraps ErrUserDenied for one who may not be
	// impersonated. It is nil if users are not impersonated.
	Admit func(*messages.Credential) error
}

// An Attempt authenticates one request to one upstream, and the one repeat of it after
// a refusal. Acquire comes first, then for each sending Mint or WithoutToken, and Judge
// when the status of the response is known:
//
//	a := negotiate.Attempt{Config: cfg, Target: target, Body: body}
//	err := a.Acquire(ctx)
//	content, err := a.Body.Next(ctx)
//	for {
//		token, err := a.Mint(ctx, nil)
//		... send the request with this token and content
//		j := a.Judge(ctx, response.StatusCode, response.Header)
//		if j.Decision != negotiate.Repeat {
//			break
//		}
//		content = j.Body
//	}
//
// It is used by one goroutine at a time, and is not copied after Acquire.
type Attempt struct {
	Config *AttemptConfig
	Target Target
	Body   *httpauth.Replay

	grant        Grant
	token        Token
	clockOffset  *time.Duration // of the repeat's token; nil for the realm's clock
	repeated     bool
	retried      bool // repeated, because a token was refused
	withoutToken bool
}

// Decision is what is done with a response.
type Decision int

// The decisions.
const (
	Deliver Decision = iota // pass the response on
	Repeat                  // discard it, and send the request again
	Reject                  // discard it: the upstream failed to prove itself
)

// Judgement is what a response says and what is done with it.
type Judgement struct {
	Verdict
	Decision Decision
	Body     io.ReadCloser // the request's body; for Repeat
	Err      error         // wraps ErrMutualAuth; for Reject
}

// NotAuthenticated reports whether a response that is delivered refuses the token. A
// 401 with the upstream's proof does not: the client is authenticated but not authorized.
func (j *Judgement) NotAuthenticated() bool {
	return j.Refused && !j.Proven && j.Decision == Deliver
}

// Acquire gets the ticket for the target. If the target has a user, it makes sure that
// the user whom the ticket names may be impersonated.
func (a *Attempt) Acquire(ctx context.Context) (err error) {
	if a.Target.User.IsZero() {
		a.grant, err = a.Config.Initiator.Grant(ctx, &a.Target, a.Config.Delegation)
	} else {
		a.grant, err = a.Config.Initiator.GrantUser(ctx, &a.Target, a.Config.Admit)
	}
	return err
}

// Grant returns what the tokens are derived from, after Acquire.
func (a *Attempt) Grant() Grant { return a.grant }

// Mint returns the value of Authorization for the next sending, with the bindings of its
// connection; nil for none. It may be called again if the connection turns out to be
// closed.
func (a *Attempt) Mint(ctx context.Context, bindings *httpauth.Binding) (header string, err error) {
	a.token.Close()
	a.withoutToken = false
	a.token, err = a.grant.Mint(ctx, Features{
		Mutual: a.Config.MutualAuth != MutualAuthOff, Raw: a.Config.Raw, Bindings: bindings, ClockOffset: a.clockOffset,
	})
	return a.token.Header, err
}

// WithoutToken has the next sending carry no token: the upstream has authenticated its
// connection.
func (a *Attempt) WithoutToken() {
	a.token.Close()
	a.withoutToken = true
	a.token = Token{}
}

// Settle says that the attempt is over: it releases the body (httpauth.Replay.Settle), and what
// would verify an answer that did not come.
func (a *Attempt) Settle() {
	a.Body.Settle()
	a.token.Close()
}

// HasToken reports whether the last sending carried a token.
func (a *Attempt) HasToken() bool { return !a.withoutToken }

// Token returns the value of Authorization of the last sending.
func (a *Attempt) Token() string { return a.token.Header }

// Repeated reports whether Judge has decided to repeat the request.
func (a *Attempt) Repeated() bool { return a.repeated }

// Retried reports whether Judge has decided to repeat the request because its token was
// refused, and not because it had none.
func (a *Attempt) Retried() bool { return a.retried }

// Judge reads the response to the last sending. It decides to repeat the request at most
// once, which may take an exchange with the KDC.
func (a *Attempt) Judge(ctx context.Context, status int, header http.Header) Judgement {
	return a.Decide(ctx, status, a.Verdict(status, header))
}

// Verdict is what the response to the last sending says about its token.
func (a *Attempt) Verdict(status int, header http.Header) Verdict {
	if status != http.StatusUnauthorized && !a.repeated && a.Config.MutualAuth == MutualAuthOff {
		return Verdict{} // the response says nothing about the token
	}
	return a.token.Judge(status, header)
}

// Decide decides what is done with the response to the last sending, as Judge does.
func (a *Attempt) Decide(ctx context.Context, status int, v Verdict) Judgement {
	j := Judgement{Verdict: v}
	switch {
	case j.Refused && !a.repeated:
		a.repeat(ctx, &j)
	case j.Refused:
	default:
		if a.repeated {
			a.Config.Initiator.Confirm(&a.Target, a.grant.Ticket)
		}
		if j.Err = a.proofError(status, j.Verdict); j.Err != nil {
			j.Decision = Reject
		} else if a.clockOffset != nil {
			a.Config.Initiator.keepOffset(&a.Target, a.grant.Ticket, *a.clockOffset)
		}
	}
	return j
}

// repeat decides to repeat a refused request if its body can be sent again, and if there
// is a chance that the upstream accepts another token.
func (a *Attempt) repeat(ctx context.Context, j *Judgement) {
	if !a.Body.Replayable() {
		return
	}
	grant, offset := a.grant, (*time.Duration)(nil)
	if !a.withoutToken && !j.Unbound {
		var ok bool
		grant, offset, ok = a.Config.Initiator.Retry(ctx, &a.Target, a.Config.Delegation, a.grant, j.Verdict)
		if !ok || !a.Target.User.IsZero() && a.Config.Admit(grant.Ticket.Credential()) != nil {
			return
		}
	}
	// Meanwhile the first attempt may have sent more of the body than is kept.
	body, err := a.Body.Next(ctx)
	if err != nil {
		return
	}
	a.grant, a.clockOffset = grant, offset
	a.repeated, a.retried = true, !a.withoutToken
	j.Decision, j.Body = Repeat, body
}

// proofError applies the setting of mutual authentication to a response that does not
// refuse the token. A 401 need not bring a proof.
func (a *Attempt) proofError(status int, v Verdict) error {
	switch {
	case a.Config.MutualAuth == MutualAuthOff || v.Proven || a.withoutToken:
		return nil
	case v.Proof != nil:
		return fmt.Errorf("%w: %w", ErrMutualAuth, v.Proof)
	case a.Config.MutualAuth == MutualAuthRequired && status != http.StatusUnauthorized:
		return fmt.Errorf("%w: the upstream sent no proof", ErrMutualAuth)
	}
	return nil
}
