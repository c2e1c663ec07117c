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

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

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
