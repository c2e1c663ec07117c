package caddynegotiate

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/internal/identitypool"
	"github.com/caddy-negotiate/caddy-negotiate/internal/logging"
	"github.com/caddy-negotiate/caddy-negotiate/internal/session"
	"github.com/caddy-negotiate/caddy-negotiate/internal/signin"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pac"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
)

func init() {
	caddy.RegisterModule(new(Auth))
}

// Auth signs clients in with Kerberos (`Authorization: Negotiate`, RFC 4559): browsers of domain
// users do so without a dialog. The account's keys open the tickets that clients send; it does not
// log in itself.
//
// A client without a token, or with one that is not good, gets 401 and the challenge
// `WWW-Authenticate: Negotiate`; NTLM is refused. A user outside `realms` or the groups gets 403. A
// client address whose tokens fail too often gets 429: 20 at once and 5 a second, an IPv6 address
// as all of its /64. 503 means that the account's keys or the replay cache are not available. All of
// these pass through `handle_errors`. The client's `Authorization` is removed.
//
// Placeholders set:
//
// Placeholder | Description
// ------------|-------------
// `{http.auth.user.id}` | The user's principal, e.g. `alice@CORP.EXAMPLE`
// `{http.auth.user.name}` | The principal without its realm
// `{http.auth.user.realm}` | The realm
// `{http.auth.user.sid}` | The account's SID, empty if the ticket has none
// `{http.auth.user.groups}` | The SIDs of the user's groups, separated by commas
type Auth struct {
	config.Login
	config.Acceptance

	// Whether a sealed cookie takes the place of the token after a sign-in. It needs TLS, except on
	// loopback addresses. Default: each request needs a token.
	Session *session.Settings `json:"session,omitempty"`

	logger    *zap.Logger
	identity  *identitypool.Ref
	accepts   accept.Config
	acceptor  *identitypool.Acceptor
	admission *config.Admission
	// bindings returns what verifies channel bindings on a request's connection; it is nil if they
	// are not looked at.
	bindings func(*http.Request) func(gss.ChannelBindings) bool
	sessions *session.Sessions // nil if there are none
	second   sync.Once         // for a warning
}

// CaddyModule returns the Caddy module information.
func (*Auth) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.negotiate_auth", New: func() caddy.Module { return new(Auth) }}
}

// block returns the settings by which config.PlacesOf finds the block in the Caddyfile.
func (a *Auth) block() []any { return []any{"negotiate_auth", a.Login, a.Acceptance, a.Session} }

// check checks what the text of the configuration shows.
func (a *Auth) check() error {
	return cmp.Or(a.Login.Check(), a.Acceptance.Check(), a.Session.Check())
}

// Provision reads the files that the configuration names. It sends nothing to a KDC.
func (a *Auth) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger()
	places := config.PlacesOf(a.block()...)
	return places.Locate(cmp.Or(a.check(), a.provision(ctx)))
}

func (a *Auth) provision(ctx caddy.Context) (err error) {
	if a.identity, err = openAcceptor(ctx, &a.Login); err != nil {
		return err
	}
	if a.admission, err = a.Acceptance.Compile(a.identity.Resolved()); err != nil {
		return err
	}
	listeners := signin.ListenersOf(ctx)
	a.accepts.Services = a.admission.Services
	if a.accepts.Bindings, err = a.provisionBindings(listeners); err != nil {
		return config.Setting("channel_binding", err)
	}
	if a.acceptor, err = a.identity.Acceptor(a.accepts, a.admission.AnyName); err != nil {
		return err
	}
	return cmp.Or(a.Session.CheckListener(listeners.PlainBeyond), a.openSessions(ctx))
}

// openSessions prepares the sessions. The block's settings tell it from other blocks.
func (a *Auth) openSessions(ctx caddy.Context) error {
	app, err := ctx.App("kerberos")
	if err != nil {
		return err
	}
	block, err := json.Marshal(a)
	a.sessions = a.Session.Open(session.Config{Logger: a.logger, Keys: app.(*App).sessionKeys, Acceptor: a.acceptor.Account(), Block: block})
	return err
}

// provisionBindings resolves the settings of channel bindings. FIPS 140 does not allow them.
func (a *Auth) provisionBindings(l signin.Listeners) (accept.BindingsMode, error) {
	required := a.admission.Binding == config.ChannelBindingRequired
	if a.admission.Binding == config.ChannelBindingOff {
		return accept.BindingsOff, nil
	}
	if err := config.RequireUnapproved("MD5 (RFC 4121, Section 4.1.1.2)", "set off"); err != nil {
		if required || a.ChannelBindingCert != "" {
			return 0, err
		}
		a.logger.Info("FIPS 140 is enforced: channel bindings of clients are not checked")
		return accept.BindingsOff, nil
	}
	mode := accept.BindingsAuto
	if required {
		mode = accept.BindingsRequired
	}
	if a.ChannelBindingCert != "" {
		pinned, err := httpauth.PinnedBinding(a.ChannelBindingCert)
		a.bindings = func(*http.Request) func(gss.ChannelBindings) bool {
			return func(b gss.ChannelBindings) bool { return b == pinned.Hashed }
		}
		return mode, err
	}
	if required && l.Plain != "" {
		return 0, errors.New("required works over TLS only, and the server listens on " + l.Plain +
			" without it; use https, or cert FILE if a TLS terminator is in front")
	}
	a.bindings = signin.ProcessCertificates.Of
	return mode, nil
}

// Cleanup releases the identity.
func (a *Auth) Cleanup() error {
	a.identity.Release()
	return nil
}

// Inspect implements config.Inspector. Tokens are tried that may be older than this process.
func (a *Auth) Inspect() config.Inspection {
	return config.Inspection{
		Login: &a.Login, Admission: a.admission, SignIn: a.try, Place: config.PlacesOf(a.block()...).Block(),
	}
}

// try verifies a token without the process's memory of those that were accepted.
func (a *Auth) try(ctx context.Context, r accept.Request) (*accept.Result, error) {
	alone := a.accepts
	alone.Replays = accept.NewReplays(accept.ReplayMemory, time.Time{})
	acceptor, err := a.identity.Acceptor(alone, a.admission.AnyName)
	if err != nil {
		return nil, err
	}
	return acceptor.Accept(ctx, r)
}

// ServeHTTP signs the client in and passes the request on.
func (a *Auth) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if a.sessions.SignOff(w, r) {
		return nil
	}
	result, late := diagnosis.SignedIn, make(http.Header)
	user, answer, err := a.signIn(r)
	if errors.Is(err, errNoToken) {
		if resumed := a.sessions.Resume(late, r); resumed != nil {
			user, result, err = resumed, diagnosis.BySession, nil
		}
	}
	if err != nil {
		a.sessions.Hide(r)
		return a.refuse(w, r, err)
	}
	if answer != "" {
		late.Set("Www-Authenticate", answer)
	}
	proof := &answerWriter{&caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, late}
	if err := a.admission.Admit(user.Principal, user.Account); err != nil {
		a.sessions.Hide(r)
		a.count(diagnosis.Denied)
		logging.SignInDenied(a.logger, a.identity.Initiator().Name(), user.Principal, err)
		proof.add()
		return caddyhttp.Error(http.StatusForbidden, errDenied)
	}
	if result == diagnosis.SignedIn {
		a.sessions.Begin(late, r, user)
	}
	a.count(result)
	logging.SignedIn(a.logger, a.identity.Initiator().Name(), user.Principal, user.Ends)
	signin.SetUser(r.Context(), user)
	setUserPlaceholders(r.Context(), replacerOf(r), user)
	err = next.ServeHTTP(proof, r)
	proof.add() // unless the answer is written already
	return err
}

// The texts that handle_errors can show. They name no user and no cause.
var (
	errNotSignedIn = errors.New("not signed in")
	errDenied      = errors.New("not allowed to enter")
	errThrottled   = errors.New("too many tokens that failed")
	errUnavailable = errors.New("cannot sign in now")
)

// errNoToken is for a request without a token.
var errNoToken = errors.New("no token")

// throttledError says when an address may send tokens again.
type throttledError struct{ wait time.Duration }

func (*throttledError) Error() string { return errThrottled.Error() }

// signIn verifies the request's token, which it removes. The answer is the value of
// WWW-Authenticate that proves to the client who we are, empty if none is due.
func (a *Auth) signIn(r *http.Request) (user *signin.User, answer string, err error) {
	authorization := r.Header["Authorization"]
	httpauth.DropAuthorization(r)
	request := accept.Request{Address: clientAddress(r)}
	if a.bindings != nil {
		request.Bindings = a.bindings(r)
	}
	if request.Base64, err = accept.ParseAuthorization(authorization); err != nil {
		return nil, "", err
	}
	if request.Base64 == "" {
		return nil, "", errNoToken
	}
	if wait := signin.Process.Wait(request.Address); wait > 0 {
		return nil, "", &throttledError{wait}
	}
	result, err := a.acceptor.Accept(r.Context(), request)
	if err != nil {
		return nil, "", err
	}
	if result.Token != nil {
		answer = "Negotiate " + base64.StdEncoding.EncodeToString(result.Token)
	}
	return &signin.User{
		Principal: result.Client, Account: result.Account, Evidence: result.Evidence, Acceptor: a.acceptor.Account(),
		SignedIn: time.Now(), Ends: result.Evidence.EndTime,
	}, answer, nil
}

// refuse answers a request whose client did not sign in.
func (a *Auth) refuse(w http.ResponseWriter, r *http.Request, err error) error {
	if throttled, ok := errors.AsType[*throttledError](err); ok {
		a.count(diagnosis.Unverified)
		w.Header().Set("Retry-After", retryAfter(throttled.wait))
		return caddyhttp.Error(http.StatusTooManyRequests, errThrottled)
	}
	d := diagnosis.SignIn{Status: http.StatusUnauthorized, Result: diagnosis.WithoutToken}
	if errors.Is(err, errNoToken) {
		a.warnOfSecond(r)
	} else {
		d = diagnosis.OfSignIn(err)
		logging.SignInFailed(a.logger, a.identity.Initiator().Name(), clientAddress(r), d, err)
	}
	a.count(d.Result)
	if d.Counts() {
		signin.Process.Failed(clientAddress(r))
	}
	if d.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter(unavailablePause))
		return caddyhttp.Error(d.Status, errUnavailable)
	}
	w.Header().Add("Www-Authenticate", "Negotiate")
	return caddyhttp.Error(d.Status, errNotSignedIn)
}

// warnOfSecond warns if another block has signed the client in: it took the token, which is good once.
func (a *Auth) warnOfSecond(r *http.Request) {
	if signin.UserOf(r.Context()) == nil {
		return
	}
	a.second.Do(func() {
		a.logger.Warn("two negotiate_auth blocks run on one request: the first has used the client's token, so the second answers 401; further ones are not logged",
			zap.String("path", r.URL.Path), zap.String("remedy", "let their matchers exclude each other: negotiate_auth @admin, negotiate_auth @others"))
	})
}

// unavailablePause is when a client should try again whose token could not be judged.
const unavailablePause = 5 * time.Second

// retryAfter is the value of Retry-After (RFC 9110, Section 10.2.3).
func retryAfter(wait time.Duration) string {
	return strconv.Itoa(max(1, int((wait+time.Second-1)/time.Second)))
}

func (a *Auth) count(r diagnosis.SignInResult) { a.identity.Requests().SignIn(string(r)) }

// clientAddress is the client's address as Caddy determines it, which trusted_proxies can change;
// the zero address if there is none, as on a Unix socket.
func clientAddress(r *http.Request) netip.Addr {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	address, _ := netip.ParseAddr(text)
	return address
}

// setUserPlaceholders sets all of them, because another directive may have set some. The groups may
// be many, and are joined when they are asked for: the replacer takes the first function that knows
// a name, and a value before functions, so an earlier user's are not to be found.
func setUserPlaceholders(ctx context.Context, repl *caddy.Replacer, u *signin.User) {
	sid := ""
	if u.Account != nil {
		sid = string(u.Account.SID)
	}
	repl.Set("http.auth.user.id", u.Principal.String())
	repl.Set("http.auth.user.name", u.Principal.Name.String())
	repl.Set("http.auth.user.realm", u.Principal.Realm)
	repl.Set("http.auth.user.sid", sid)
	repl.Delete("http.auth.user.groups")
	repl.Map(func(key string) (any, bool) {
		if key != "http.auth.user.groups" {
			return nil, false
		}
		if last := signin.UserOf(ctx); last != nil && last.Account != nil {
			return joinSIDs(last.Account.Groups), true
		}
		return "", true
	})
}

func joinSIDs(groups []pac.SID) string {
	var b strings.Builder
	for i, g := range groups {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(string(g))
	}
	return b.String()
}

// answerWriter adds the proof that the client's token was verified, and the cookie of a session, to the
// final answer, when other handlers have removed the upstream's challenges from it, and one that
// caches has kept what it keeps.
type answerWriter struct {
	*caddyhttp.ResponseWriterWrapper
	late http.Header // nil when it was added
}

// add adds the fields, once.
func (w *answerWriter) add() {
	for name, values := range w.late {
		w.Header()[name] = append(w.Header()[name], values...)
	}
	w.late = nil
}

// WriteHeader adds the fields to a final status, and to 101.
func (w *answerWriter) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.add()
	}
	w.ResponseWriterWrapper.WriteHeader(status)
}

// Write adds the fields before the answer begins.
func (w *answerWriter) Write(b []byte) (int, error) {
	w.add()
	return w.ResponseWriterWrapper.Write(b)
}

// ReadFrom adds the fields before the answer begins.
func (w *answerWriter) ReadFrom(r io.Reader) (int64, error) {
	w.add()
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError adds the fields before the answer begins.
func (w *answerWriter) FlushError() error {
	w.add()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Auth)(nil)
	_ caddy.CleanerUpper          = (*Auth)(nil)
	_ caddyhttp.MiddlewareHandler = (*Auth)(nil)
	_ config.Inspector            = (*Auth)(nil)
)
