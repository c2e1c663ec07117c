package caddynegotiate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// who is an account that is checked: an identity of its own, with a cache of its
// own, so that nothing is shared with a running Caddy.
type who struct {
	name        string // empty for credentials that stand where they are used
	credentials *Credentials
	sites       []*site

	known     atlas
	principal messages.Principal
	secret    negotiate.Secret

	probe    *probe
	client   *krb5core.Client
	settings *negotiate.Settings
	tickets  *negotiate.Tickets
	identity *negotiate.Identity
}

// read reads the files, as Caddy does when it loads the configuration.
func (w *who) read(app *App, logger *zap.Logger) (err error) {
	reader := &App{Krb5Conf: app.Krb5Conf, Realms: app.Realms, logger: logger}
	if err = w.credentials.validate(); err != nil {
		return err
	}
	if w.known, err = reader.atlas(w.credentials); err != nil {
		return err
	}
	if w.principal, err = w.credentials.principal(w.known); err != nil {
		return err
	}
	w.secret, err = w.credentials.secret(w.principal, w.known, logger)
	return err
}

// prepare makes what asks the KDCs.
func (w *who) prepare() (err error) {
	w.probe = new(probe)
	if w.client, err = w.credentials.client(w.known, w.principal.Realm, w.probe, kdc.NewMemory()); err != nil {
		return err
	}
	w.tickets = cache.New[*negotiate.Ticket](cache.Config{})
	w.settings = negotiate.NewSettings(w.title(), w.client)
	w.identity, err = negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: "check", Principal: w.principal, Secret: w.secret, Tickets: w.tickets,
	})
	return err
}

// is tells whether the account goes by the name.
func (w *who) is(name string, app *App) bool {
	if w.name == name {
		return true
	}
	_ = w.read(app, zap.NewNop()) // the principal comes first, and that is all that matters here
	return w.principal.String() == name || w.credentials.User == name
}

// title is what the report calls the account.
func (w *who) title() string {
	switch {
	case w.name != "" && w.credentials.User != "":
		return "identity " + w.name + " (" + w.credentials.User + ")"
	case w.name != "":
		return "identity " + w.name
	case w.credentials.User != "":
		return w.credentials.User
	default:
		return w.credentials.Keytab + w.credentials.CCache
	}
}

// probe is a krb5core.Tracer that remembers what a check wants to tell.
type probe struct {
	mu     sync.Mutex
	events []exchange.Event
	kvno   uint32 // of the key that the KDC encrypted its last AS-REP with; 0 if it named none
	etype  enctype.ID
}

// ObserveMessage implements kdc.Observer.
func (p *probe) ObserveMessage(_ context.Context, m kdc.MessageEvent) {
	if m.Direction != kdc.Received || m.Err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if reply, err := messages.ParseKDCRep(m.Data); err == nil && reply.MsgType == messages.KRB_AS_REP {
		p.kvno, p.etype = reply.EncPart.KVNO, reply.EncPart.EType
	}
}

// ObserveDecision implements kdc.Observer.
func (p *probe) ObserveDecision(context.Context, kdc.Decision) {}

// ObserveExchange implements krb5core.Tracer.
func (p *probe) ObserveExchange(_ context.Context, _ krb5core.Op, e exchange.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, e)
}

// last gives the last event of a type.
func last[E exchange.Event](p *probe) (event E, found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range slices.Backward(p.events) {
		if event, found = e.(E); found {
			return event, true
		}
	}
	return event, false
}

// checkAccount checks everything up to the login, and tells whether there is one.
func (c *check) checkAccount(ctx context.Context, w *who) bool {
	if !c.checkFiles(w) {
		return false
	}
	servers := c.checkDiscovery(ctx, w)
	if len(servers) == 0 {
		return false
	}
	if !c.checkReach(ctx, w, servers) {
		return false
	}
	return c.checkLogin(ctx, w)
}

// checkFiles reads what the credentials name. What Caddy would warn of is a step too.
func (c *check) checkFiles(w *who) bool {
	logger := zap.New(warnCore{c})
	if err := w.read(c.doc.app, logger); err != nil {
		causes := []string{causeConfiguration}
		if weakOnly(w) {
			causes = []string{causeWeakKeys}
		}
		c.fail(stepFiles, err.Error(), "", causes...)
		return false
	}
	if err := w.prepare(); err != nil {
		c.fail(stepFiles, err.Error(), "", causeConfiguration)
		return false
	}
	kind, path := w.identity.Origin()
	switch {
	case kind == "keytab":
		c.ok(stepFiles, "keytab %s has %s of %s", path, keyList(w.identity.Keys()), w.identity.Principal())
	case path != "":
		c.ok(stepFiles, "%s %s of %s", kind, path, w.identity.Principal())
	default:
		c.ok(stepFiles, "password of %s", w.identity.Principal())
	}
	return true
}

// weakOnly tells whether a keytab has none but weak keys of the account.
func weakOnly(w *who) bool {
	if w.credentials.Keytab == "" {
		return false
	}
	file, err := negotiate.ReadKeytab(w.credentials.Keytab)
	if err != nil {
		return false
	}
	keys := file.Keys(w.principal)
	for _, e := range keys {
		if id := e.Key.EType(); id.Supported() && !id.Weak() {
			return false
		}
	}
	return len(keys) > 0
}

// keyList names the keys of each version: "aes256-cts-hmac-sha1-96 and
// aes128-cts-hmac-sha1-96 of version 3".
func keyList(keys []krb5core.HeldKey) string {
	var parts []string
	for i := 0; i < len(keys); {
		var types []string
		kvno := keys[i].KVNO
		for ; i < len(keys) && keys[i].KVNO == kvno; i++ {
			types = append(types, keys[i].EType.String())
		}
		parts = append(parts, fmt.Sprintf("version %d (%s)", kvno, strings.Join(types, ", ")))
	}
	return strings.Join(parts, ", ")
}

// checkDiscovery finds the KDCs.
func (c *check) checkDiscovery(ctx context.Context, w *who) []kdc.Server {
	realm := w.principal.Realm
	c.progress("looking for the KDCs of %s", realm)
	stated, err := w.credentials.servers()
	if err != nil {
		c.fail(stepDiscovery, err.Error(), "", causeConfiguration)
		return nil
	}
	finder, err := w.known.finder(realm, stated)
	if err != nil {
		c.fail(stepDiscovery, err.Error(), "", causeConfiguration)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*c.patience)
	defer cancel()
	servers, err := finder.KDCs(ctx, realm)
	if err != nil {
		c.fail(stepDiscovery, fmt.Sprintf("no KDC of %s is known: %v", realm, err),
			"state kdc dc1.corp.example, or let this machine ask a DNS that knows the domain (nslookup -type=SRV _kerberos._tcp."+strings.ToLower(realm)+")", causeKDCDead)
		return nil
	}
	names := make([]string, 0, len(servers))
	for _, s := range servers {
		names = append(names, s.String())
	}
	c.ok(stepDiscovery, "%s: %s (%s)", realm, strings.Join(names, ", "), w.foundBy(stated))
	return servers
}

// foundBy says what named the KDCs.
func (w *who) foundBy(stated []kdc.Server) string {
	realm := w.principal.Realm
	switch {
	case len(stated) > 0:
		return "by kdc"
	case w.known.realms[realm] != nil && len(w.known.realms[realm].KDC) > 0:
		return "by the realm block"
	case w.known.conf != nil && len(w.known.conf.Realms[realm].KDCs) > 0:
		return "by krb5.conf"
	default:
		return "by DNS"
	}
}

// reach is how one KDC answered by one protocol.
type reach struct {
	server   kdc.Server
	protocol kdc.Protocol
	took     time.Duration
	offset   *time.Duration // the KDC's clock is ahead of ours
	err      error
}

// checkReach asks each KDC alone, by each protocol, without proving anything.
func (c *check) checkReach(ctx context.Context, w *who, servers []kdc.Server) bool {
	c.progress("asking %s", humanize.Comma(int64(len(servers)))+" KDCs of "+w.principal.Realm)
	var tries []*reach
	for _, server := range servers {
		for _, p := range protocols(server, w.credentials.UseTCP) {
			tries = append(tries, &reach{server: server, protocol: p})
		}
	}
	var all sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, t := range tries {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			t.ask(ctx, w, c.patience)
		})
	}
	all.Wait()
	any := slices.ContainsFunc(tries, func(t *reach) bool { return t.err == nil })
	for _, server := range servers {
		c.tellReach(server, tries, any)
	}
	if any {
		c.checkClock(w, tries)
	}
	return any
}

// protocols are those by which the KDC would be asked.
func protocols(s kdc.Server, tcpOnly bool) []kdc.Protocol {
	switch {
	case s.Scheme == kdc.SchemeHTTPS:
		return []kdc.Protocol{kdc.HTTPS}
	case s.Scheme == kdc.SchemeUDP:
		return []kdc.Protocol{kdc.UDP}
	case s.Scheme == kdc.SchemeTCP, tcpOnly:
		return []kdc.Protocol{kdc.TCP}
	default:
		return []kdc.Protocol{kdc.UDP, kdc.TCP}
	}
}

// noKeys is for questions that prove nothing.
type noKeys struct{}

func (noKeys) ETypes() []enctype.ID                      { return nil }
func (noKeys) Key(exchange.KeyInfo) (enctype.Key, error) { return enctype.Key{}, exchange.ErrNoKey }

// ask sends a bare AS-REQ, which every KDC answers and which locks nobody out.
func (t *reach) ask(ctx context.Context, w *who, patience time.Duration) {
	if t.err = ctx.Err(); t.err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	options, err := w.credentials.KDCOptions.options()
	if err != nil {
		t.err = err
		return
	}
	only := t.server
	if only.Scheme == kdc.SchemeAny {
		only.Scheme = string(t.protocol)
	}
	sender, err := kdc.NewSender(kdc.Config{Finder: kdc.Static{w.principal.Realm: {only}}, Options: options, Timeout: patience})
	if err != nil {
		t.err = err
		return
	}
	login, err := exchange.NewAS(exchange.ASConfig{Client: w.principal, Keys: noKeys{}, ETypes: w.client.ETypes()})
	if err != nil {
		t.err = err
		return
	}
	question, err := login.Step(nil)
	if err != nil {
		t.err = err
		return
	}
	begin := time.Now()
	reply, err := sender.Send(ctx, kdc.Query{Realm: question.Realm, Message: question.Message, TCPOnly: t.protocol == kdc.TCP, Check: func(reply []byte) kdc.Verdict {
		// A ticket, for an account that need not prove itself, cannot be read here.
		if messages.TypeOf(reply) != messages.KRB_AS_REP && errors.Is(login.Check(reply), exchange.ErrForeign) {
			return kdc.Foreign
		}
		return kdc.Accept
	}})
	t.took = time.Since(begin)
	if errors.Is(err, kdc.ErrReplyTooBig) {
		return // it is there
	}
	if t.err = err; err != nil {
		return
	}
	if refusal, err := messages.ParseKRBError(reply.Message); err == nil {
		offset := refusal.ServerTime().Sub(begin.Add(t.took / 2))
		t.offset = &offset
	}
}

// tellReach makes one line of what a KDC answered.
func (c *check) tellReach(server kdc.Server, tries []*reach, any bool) {
	var good, bad []string
	silent := make(map[kdc.Protocol]bool)
	for _, t := range tries {
		if t.server != server {
			continue
		}
		if t.err == nil {
			good = append(good, fmt.Sprintf("%s in %s", t.protocol, t.took.Round(10*time.Microsecond)))
			continue
		}
		silent[t.protocol] = true
		bad = append(bad, fmt.Sprintf("%s: %v", t.protocol, whyUnreached(t.err)))
	}
	const everywhere = "is it up, is kdc right, do firewalls pass port 88 by UDP and TCP? On Windows: Test-NetConnection HOST -Port 88"
	switch text := fmt.Sprintf("%s %s", server, strings.Join(append(good, bad...), ", ")); {
	case len(bad) == 0:
		c.ok(stepReach, "%s", text)
	case len(good) == 0 && any:
		c.warn(stepReach, text+"; the others serve instead of it", everywhere+" Or take it out of kdc", causeKDCDead)
	case len(good) == 0:
		c.fail(stepReach, text, everywhere, causeKDCDead)
	case silent[kdc.UDP]:
		c.warn(stepReach, text, "let firewalls pass port 88 by UDP, or state use_tcp so that nobody waits for it")
	default:
		c.warn(stepReach, text, "let firewalls pass port 88 by TCP: answers to accounts in many groups do not fit a datagram")
	}
}

// whyUnreached leaves off what the line says already.
func whyUnreached(err error) error {
	var far *kdc.UnreachableError
	if errors.As(err, &far) && len(far.Attempts) > 0 {
		return far.Attempts[len(far.Attempts)-1].Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return kdc.ErrNoAnswer
	}
	return err
}

// clockTolerance is how far clocks may be apart before tokens are refused (RFC 4120
// 8.2's recommendation, which everybody follows).
const clockTolerance = 5 * time.Minute

const remedyClock = "synchronise the clocks. Windows: w32tm /query /status, then w32tm /resync; elsewhere: chronyc makestep, or timedatectl set-ntp true"

// offsetText says how a clock differs from ours.
func offsetText(offset time.Duration) string {
	offset = offset.Round(time.Second)
	if offset < 0 {
		return (-offset).String() + " behind ours"
	}
	return offset.String() + " ahead of ours"
}

// checkClock compares the KDCs' clocks with ours.
func (c *check) checkClock(w *who, tries []*reach) {
	var worst *reach
	for _, t := range tries {
		if t.offset != nil && (worst == nil || t.offset.Abs() > worst.offset.Abs()) {
			worst = t
		}
	}
	switch {
	case worst == nil:
		return // the KDC did not say
	case worst.offset.Abs() <= time.Second:
		c.ok(stepClock, "the KDCs' clocks and ours agree")
	case worst.offset.Abs() <= time.Minute:
		c.ok(stepClock, "the KDCs' clocks and ours differ by %s at most", worst.offset.Abs().Round(time.Second))
	case worst.offset.Abs() <= clockTolerance:
		c.warn(stepClock, fmt.Sprintf("the clock of %s is %s", worst.server, offsetText(*worst.offset)), remedyClock, causeClock)
	default:
		c.warn(stepClock, fmt.Sprintf("the clock of %s is %s, more than the %s that Kerberos allows. It is made up for towards this realm, "+
			"as long as the upstream's clock agrees with the KDC's; other programs on this machine fail", worst.server, offsetText(*worst.offset), clockTolerance), remedyClock, causeClock)
	}
}

// checkLogin wins a ticket-granting ticket.
func (c *check) checkLogin(ctx context.Context, w *who) bool {
	c.progress("logging in as %s", w.identity.Principal())
	tgt, err := w.identity.Login(ctx, w.settings)
	if err != nil {
		c.tellLoginFailed(w, err)
		return false
	}
	cred := tgt.Credential()
	text := fmt.Sprintf("%s, until %s (%s)", cred.Client, cred.EndTime.Local().Format(time.DateTime), away(cred.EndTime, time.Now()))
	if key, ok := last[exchange.KeyChosen](w.probe); ok {
		text += fmt.Sprintf("; key %s", key.EType)
		if key.HasSalt {
			text += fmt.Sprintf(", salt %q", key.Salt)
		}
	}
	kvno, held := w.probe.kvno, w.newest(w.probe.etype)
	if kvno != 0 {
		text += fmt.Sprintf(", version %d", kvno)
	}
	if kvno != 0 && held != 0 && kvno != held {
		c.warn(stepLogin, fmt.Sprintf("%s; but the keytab says version %d", text, held),
			"logging in works all the same, but a service that takes the keytab for its own finds no key: export it again with the version that the KDC has", causeKeytabVersion)
		return true
	}
	c.ok(stepLogin, "%s", text)
	return true
}

// newest is the version of the newest key of the type, 0 if there is none.
func (w *who) newest(id enctype.ID) uint32 {
	for _, key := range w.identity.Keys() {
		if key.EType == id {
			return key.KVNO
		}
	}
	return 0
}

// tellLoginFailed says why there is no ticket-granting ticket.
func (c *check) tellLoginFailed(w *who, err error) {
	var (
		etypes   *exchange.ETypeError
		wrongKey *exchange.WrongKeyError
		far      *kdc.UnreachableError
	)
	// When a running Caddy would try again is of no interest here.
	if pause := (*negotiate.RefusedError)(nil); errors.As(err, &pause) {
		err = pause.Err
	}
	code, refused := krb5core.Code(err)
	switch {
	case errors.As(err, &wrongKey):
		c.tellWrongKey(w, err, wrongKey.KVNO)
	case refused && (code == messages.KDC_ERR_PREAUTH_FAILED || code == messages.KRB_AP_ERR_BAD_INTEGRITY):
		c.tellWrongKey(w, err, 0)
	case errors.As(err, &etypes), refused && code == messages.KDC_ERR_ETYPE_NOSUPP, errors.Is(err, exchange.ErrNoKey):
		causes := []string{causeEType}
		if weakOnly(w) {
			causes = []string{causeWeakKeys}
		}
		c.fail(stepLogin, err.Error(), diagnose(err).Remedy, causes...)
	case refused && code == messages.KRB_AP_ERR_SKEW:
		c.fail(stepLogin, err.Error(), remedyClock, causeClock)
	case errors.As(err, &far):
		c.fail(stepLogin, err.Error(), diagnose(err).Remedy, causeKDCDead)
	default:
		c.fail(stepLogin, err.Error(), diagnose(err).Remedy, causeAccount)
	}
}

// tellWrongKey says why the KDC may not take the account's key. It does not say
// which version its own is of, unless it answered with it.
func (c *check) tellWrongKey(w *who, err error, kdcVersion uint32) {
	kind, path := w.identity.Origin()
	account := w.principal.Name.String()
	if kind != "keytab" {
		c.fail(stepLogin, err.Error(), fmt.Sprintf("the password of %s is wrong: set it right here, or anew at the KDC (AD: Set-ADAccountPassword %s -Reset; MIT: kadmin cpw %s). "+
			"In a file, no space may stand around it", account, account, account), causeWrongPassword)
		return
	}
	salt := ""
	if key, ok := last[exchange.KeyChosen](w.probe); ok {
		salt = key.Salt
	}
	keys := w.identity.Keys()
	held := uint32(0)
	if len(keys) > 0 {
		held = keys[0].KVNO
	}
	export := fmt.Sprintf("export it again: AD: ktpass /princ %s /mapuser %s /crypto AES256-SHA1 /ptype KRB5_NT_PRINCIPAL /pass * /out %s; MIT: kadmin ktadd -k %s %s",
		w.principal, account, path, path, account)
	if kdcVersion != 0 && kdcVersion != held {
		c.fail(stepLogin, fmt.Sprintf("%v; the KDC's key is of version %d, the keytab's newest of version %d", err, kdcVersion, held),
			"the password was changed after the keytab was made: "+export, causeKeytabVersion)
		return
	}
	c.fail(stepLogin, fmt.Sprintf("%v; the keytab's newest key is of version %d", err, held),
		fmt.Sprintf("one of three, which the protocol does not tell apart:\n1. the password was changed after the keytab was made: compare version %d with the account's (AD: Get-ADUser %s -Properties msDS-KeyVersionNumber; "+
			"MIT: kadmin getprinc %s); if they differ, %s\n2. they agree, but the key was made with another salt than the KDC's %q, as after a renaming: "+
			"caddy kerberos keytab add %s --principal %s --kvno %d --salt %q\n3. it was made of another password: the same command, with the right one",
			held, account, account, export, salt, path, w.principal, held, salt),
		causeKeytabVersion, causeKeytabSalt, causeWrongPassword)
}

// warnCore makes steps of what would be logged as a warning.
type warnCore struct{ *check }

func (warnCore) Enabled(level zapcore.Level) bool    { return level >= zapcore.WarnLevel }
func (w warnCore) With([]zapcore.Field) zapcore.Core { return w }
func (warnCore) Sync() error                         { return nil }
func (w warnCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, w)
}

// Write implements zapcore.Core.
func (w warnCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	text := e.Message
	for _, f := range fields {
		switch f.Key {
		case "path", "mode", "error":
			enc := zapcore.NewMapObjectEncoder()
			f.AddTo(enc)
			text += fmt.Sprintf(" (%s %v)", f.Key, enc.Fields[f.Key])
		}
	}
	w.warn(stepFiles, text, "", causeFilePermissions)
	return nil
}
