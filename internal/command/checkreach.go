package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"golang.org/x/sync/errgroup"

	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// checkDiscovery finds the KDCs of the account's realm.
func (c *check) checkDiscovery(ctx context.Context, a *checkedAccount) []kdc.Server {
	realm := a.resolved.Principal.Realm
	c.waiting("looking for the KDCs of %s", realm)
	ctx, cancel := context.WithTimeout(ctx, 2*c.patience)
	defer cancel()
	servers, err := a.resolved.Finder.KDCs(ctx, realm)
	if err != nil {
		c.failAs(stepDiscovery, fmt.Sprintf("no KDC of %s is found: %v", realm, err), diagnosis.Discovery(realm))
		return nil
	}
	names := make([]string, 0, len(servers))
	for _, s := range servers {
		names = append(names, s.String())
	}
	c.ok(stepDiscovery, "%s: %s (%s)", realm, strings.Join(names, ", "), a.kdcSource())
	return servers
}

// reach is how one KDC answers over one protocol.
type reach struct {
	server   kdc.Server
	protocol kdc.Protocol
	took     time.Duration
	offset   *time.Duration // of the KDC's clock from ours; nil if it did not say
	err      error
}

// maxProbes bounds how many KDCs are asked at the same time.
const maxProbes = 8

// checkReach sends a request without credentials to each KDC over each protocol, and reports
// whether one answered.
func (c *check) checkReach(ctx context.Context, a *checkedAccount, servers []kdc.Server) bool {
	c.waiting("asking %s of %s", english.Plural(len(servers), "KDC", ""), a.resolved.Principal.Realm)
	var probes []*reach
	for _, server := range servers {
		for _, p := range protocols(server, a.resolved.TCPOnly) {
			probes = append(probes, &reach{server: server, protocol: p})
		}
	}
	var all errgroup.Group
	all.SetLimit(maxProbes)
	for _, p := range probes {
		all.Go(func() error {
			p.err = p.ask(ctx, a, c.patience)
			return nil
		})
	}
	_ = all.Wait()
	answered := slices.ContainsFunc(probes, func(p *reach) bool { return p.err == nil })
	for _, server := range servers {
		c.reportReach(server, probes, answered)
	}
	if answered {
		c.checkClock(probes)
	}
	return answered
}

// protocols returns those that the KDC would be asked over.
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

// noKeys is the key source of requests without pre-authentication.
type noKeys struct{}

func (noKeys) ETypes() []enctype.ID                      { return nil }
func (noKeys) Key(exchange.KeyInfo) (enctype.Key, error) { return enctype.Key{}, exchange.ErrNoKey }

// ask sends an AS-REQ without pre-authentication, which every KDC answers and which does not count
// towards a lockout.
func (p *reach) ask(ctx context.Context, a *checkedAccount, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	only := p.server
	if only.Scheme == kdc.SchemeAny {
		only.Scheme = string(p.protocol)
	}
	principal := a.resolved.Principal
	sender, err := kdc.NewSender(kdc.Config{Finder: kdc.Static{principal.Realm: {only}}, Options: a.resolved.Sockets, Timeout: patience})
	if err != nil {
		return err
	}
	login, err := exchange.NewAS(exchange.ASConfig{Client: principal, Keys: noKeys{}, Env: exchange.Env{ETypes: a.resolved.ETypes}})
	if err != nil {
		return err
	}
	request, err := login.Step(nil)
	if err != nil {
		return err
	}
	begin := time.Now()
	reply, err := sender.Send(ctx, kdc.Request{Realm: request.Realm, Message: request.Message, TCPOnly: p.protocol == kdc.TCP, Check: func(reply []byte) kdc.Verdict {
		// The AS-REP for an account without pre-authentication cannot be decrypted here.
		if messages.TypeOf(reply) != messages.KRB_AS_REP && errors.Is(login.Check(reply), exchange.ErrForeign) {
			return kdc.Foreign
		}
		return kdc.Accept
	}})
	p.took = time.Since(begin)
	if errors.Is(err, kdc.ErrReplyTooBig) {
		return nil // it answers
	}
	if err != nil {
		return err
	}
	if refusal, err := messages.ParseKRBError(reply.Message); err == nil {
		offset := refusal.ServerTime().Sub(begin.Add(p.took / 2))
		p.offset = &offset
	}
	return nil
}

// reportReach adds one step for a KDC.
func (c *check) reportReach(server kdc.Server, probes []*reach, othersAnswer bool) {
	var good, bad []string
	unknown := "" // name that the DNS does not have
	silent := make(map[kdc.Protocol]bool)
	for _, p := range probes {
		switch {
		case p.server != server:
		case p.err == nil:
			good = append(good, fmt.Sprintf("%s in %s", p.protocol, p.took.Round(10*time.Microsecond)))
		default:
			silent[p.protocol] = true
			if lookup, ok := errors.AsType[*net.DNSError](p.err); ok && lookup.IsNotFound {
				unknown = lookup.Name
			}
			bad = append(bad, fmt.Sprintf("%s: %v", p.protocol, reachError(p.err)))
		}
	}
	dead := len(good) == 0
	d := diagnosis.Silence(dead || silent[kdc.UDP], dead || silent[kdc.TCP], othersAnswer)
	if dead && unknown != "" {
		d.Remedy = diagnosis.UnknownKDC(unknown)
	}
	switch text := fmt.Sprintf("%s %s", server, strings.Join(append(good, bad...), ", ")); {
	case len(bad) == 0:
		c.ok(stepReach, "%s", text)
	case dead && !othersAnswer:
		c.failAs(stepReach, text, d)
	case dead:
		c.warn(stepReach, text+"; the other KDCs are used instead", d.Remedy, d.Causes...)
	default:
		c.warn(stepReach, text, d.Remedy, d.Causes...)
	}
}

// reachError leaves out what the step's text already says.
func reachError(err error) error {
	if far, ok := errors.AsType[*kdc.UnreachableError](err); ok && len(far.Attempts) > 0 {
		return far.Attempts[len(far.Attempts)-1].Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return kdc.ErrNoAnswer
	}
	return err
}

// clockTolerance is how far clocks may differ before tokens are refused (recommended by RFC 4120,
// Section 8.2, and usual).
const clockTolerance = 5 * time.Minute

// offsetText describes how a clock differs from ours.
func offsetText(offset time.Duration) string {
	offset = offset.Round(time.Second)
	if offset < 0 {
		return (-offset).String() + " behind ours"
	}
	return offset.String() + " ahead of ours"
}

// checkClock compares the KDCs' clocks with ours.
func (c *check) checkClock(probes []*reach) {
	var worst *reach
	for _, p := range probes {
		if p.offset != nil && (worst == nil || p.offset.Abs() > worst.offset.Abs()) {
			worst = p
		}
	}
	switch {
	case worst == nil: // no KDC sent its time
	case worst.offset.Abs() <= time.Second:
		c.ok(stepClock, "the KDCs' clocks and ours agree")
	case worst.offset.Abs() <= time.Minute:
		c.ok(stepClock, "the KDCs' clocks and ours differ by at most %s", worst.offset.Abs().Round(time.Second))
	default:
		text := fmt.Sprintf("the clock of %s is %s", worst.server, offsetText(*worst.offset))
		if worst.offset.Abs() > clockTolerance {
			text += fmt.Sprintf(", more than the %s that Kerberos allows. Caddy compensates for it with this realm, "+
				"as long as the upstream's clock agrees with the KDC's; other programs here may fail", clockTolerance)
		}
		c.warn(stepClock, text, diagnosis.RemedyClock, diagnosis.CauseClock)
	}
}
