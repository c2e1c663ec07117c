package bench

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// variant is a way to configure Caddy.
type variant struct {
	name  string
	caddy *caddy
	load  *load
	side  *side
	token bool // sends tokens
}

// proxySizes are the sizes of tickets without a PAC, and of a user in some hundred groups.
var proxySizes = []size{{"small", 0}, {"6 kB", 6000}}

// proxy measures Caddy's processor time for a request.
func (b *bench) proxy(ctx context.Context) error {
	b.section("The whole proxy", "Processor time of the Caddy process for a request, user and system, under the same conditions: eight persistent connections, one plain "+
		"upstream with a page of 1000 bytes, loopback only. *Static* sets a constant Authorization of the same length on each request "+
		"(`request_header`). *gokrb5* is a handler that calls its SetSPNEGOHeader. All Caddy processes run all the time and are measured in turns.")
	upstream, at, err := upstreamAt(ctx, b.folder)
	if err != nil {
		return err
	}
	defer upstream.stop()
	p := &proxies{bench: b, ctx: ctx, upstream: at}
	defer p.stop()
	if p.ours, err = build(ctx, b.folder, "caddy", "github.com/caddy-negotiate/caddy-negotiate/cmd/caddy"); err != nil {
		return err
	}
	if p.peer, err = build(ctx, b.folder, "caddygokrb5", "./cmd/caddygokrb5"); err != nil {
		return err
	}
	modules, err := exec.CommandContext(ctx, p.ours, "list-modules").Output()
	if err != nil {
		return err
	}
	p.transport = strings.Contains(string(modules), "http.reverse_proxy.transport.negotiate\n")
	if p.plain, err = p.start("plain reverse_proxy", p.ours, "reverse_proxy "+at, nil, nil); err != nil {
		return err
	}
	var sets []*proxySet
	for _, z := range proxySizes {
		set, err := p.set(z)
		if err != nil {
			return err
		}
		sets = append(sets, set)
	}
	var sides []*side
	for _, v := range p.all {
		sides = append(sides, v.side)
	}
	if err := race(pick(b, 41, 2), 0, sides...); err != nil {
		return err
	}
	if err := p.report(sets); err != nil {
		return err
	}
	return p.profiles()
}

// proxies are all variants.
type proxies struct {
	*bench
	ctx        context.Context
	upstream   string
	ours, peer string // programs
	transport  bool   // ours has it
	plain      *variant
	all        []*variant
	sites      []*site
}

// proxySet holds the variants with one size of ticket.
type proxySet struct {
	size                              size
	headerLen                         int
	static, buffered, handler, gokrb5 *variant
	transport, narrow                 *variant // narrow has Caddy's default write buffer; may be nil
}

func (p *proxies) stop() {
	for _, v := range p.all {
		v.load.close()
		v.caddy.stop()
	}
	for _, s := range p.sites {
		s.stop()
	}
}

// start starts a variant. With an acceptor it also checks that the variant sends valid
// tokens.
func (p *proxies) start(name, program, block string, s *site, acceptor *kdctest.Acceptor) (*variant, error) {
	c, err := startCaddy(p.ctx, p.folder, program, fmt.Sprintf("caddy-%d", len(p.all)), block)
	if err != nil {
		return nil, err
	}
	v := &variant{name: name, caddy: c, token: s != nil}
	if v.load, err = dial(c.addr, 8); err != nil {
		c.stop()
		return nil, err
	}
	n := pick(p.bench, 4000, 800)
	v.side = &side{name: name, n: n, run: func(n int) (time.Duration, error) {
		before, err := c.cpu()
		if err != nil {
			return 0, err
		}
		if err := v.load.send(n); err != nil {
			return 0, err
		}
		after, err := c.cpu()
		return after - before, err
	}}
	p.all = append(p.all, v)
	if acceptor != nil {
		for range 3 {
			if err := v.accepted(acceptor); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return v, v.load.send(n / 4) // to warm up
}

// authorization returns the header that the upstream gets.
func (v *variant) authorization() (string, error) {
	response, err := http.Get("http://" + v.caddy.addr + "/authorization")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	header, err := io.ReadAll(response.Body)
	return string(header), err
}

// accepted checks that the upstream gets a valid token.
func (v *variant) accepted(acceptor *kdctest.Acceptor) error {
	header, err := v.authorization()
	if err != nil {
		return err
	}
	text, ok := strings.CutPrefix(header, "Negotiate ")
	if !ok {
		return fmt.Errorf("%w: %.40q", errNoToken, header)
	}
	token, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	_, _, err = acceptor.Accept(token, nil)
	return err
}

// set starts the variants for a size of ticket.
func (p *proxies) set(z size) (*proxySet, error) {
	s, err := p.siteFor(z)
	if err != nil {
		return nil, err
	}
	p.sites = append(p.sites, s)
	acceptor, err := s.acceptor(kdctest.AcceptorConfig{})
	if err != nil {
		return nil, err
	}
	set := &proxySet{size: z}
	negotiate := fmt.Sprintf("{\n\t\tkdc %s\n\t\tuser %s\n\t\tkeytab %s\n\t\tspn %s\n\t}", s.kdc.Addr(), s.proxy, s.keytab, webName)
	if set.handler, err = p.start("handler", p.ours, "\tnegotiate "+negotiate+"\n\treverse_proxy "+p.upstream, s, acceptor); err != nil {
		return nil, err
	}
	header, err := set.handler.authorization()
	if err != nil {
		return nil, err
	}
	set.headerLen = len(header)
	static := fmt.Sprintf("\trequest_header Authorization %q\n\treverse_proxy %s", header, p.upstream)
	if set.static, err = p.start("static header", p.ours, static, nil, nil); err != nil {
		return nil, err
	}
	if z.bytes > 0 {
		static += " {\n\t\ttransport http {\n\t\t\twrite_buffer 20KiB\n\t\t}\n\t}"
		if set.buffered, err = p.start("static header, write_buffer 20KiB", p.ours, static, nil, nil); err != nil {
			return nil, err
		}
	}
	if p.transport {
		block := fmt.Sprintf("\treverse_proxy %s {\n\t\ttransport negotiate %s\n\t}", p.upstream, strings.ReplaceAll(negotiate, "\n\t", "\n\t\t"))
		if set.transport, err = p.start("transport", p.ours, block, s, acceptor); err != nil {
			return nil, err
		}
		if z.bytes > 0 {
			block = strings.Replace(block, "\t\tkdc", "\t\twrite_buffer 4KiB\n\t\t\tkdc", 1)
			if set.narrow, err = p.start("transport, write_buffer 4KiB", p.ours, block, s, acceptor); err != nil {
				return nil, err
			}
		}
	}
	conf := filepath.Join(s.folder, "gokrb5.conf")
	if err := writeGokrb5Conf(conf, s.kdc.Addr()); err != nil {
		return nil, err
	}
	block := fmt.Sprintf("\tgokrb5 %s %s %s %s %s\n\treverse_proxy %s", proxyName, realmName, webName, s.keytab, conf, p.upstream)
	set.gokrb5, err = p.start("gokrb5 handler", p.peer, block, s, acceptor)
	return set, err
}

func (p *proxies) report(sets []*proxySet) error {
	plain := p.plain.side.result()
	rows := [][]string{{"", p.plain.name, micros(plain.median), "", ""}}
	list := []bar{{p.plain.name, plain.median, micros(plain.median), false}}
	for _, set := range sets {
		for _, v := range []*variant{set.static, set.buffered, set.handler, set.transport, set.narrow, set.gokrb5} {
			if v == nil {
				continue
			}
			took := v.side.result().median
			rows = append(rows, []string{
				fmt.Sprintf("%s, %d bytes", set.size.name, set.headerLen), v.name, micros(took), v.side.to(p.plain.side).String(), v.side.to(set.static.side).String(),
			})
			list = append(list, bar{v.name + ", " + set.size.name, took, micros(took), v == set.handler || v == set.transport})
		}
	}
	p.table([]string{"ticket, header", "", "processor time a request", "to plain", "to static"}, rows)
	if err := p.plot("proxy", "processor time a request", bars("Processor time of Caddy for a request", false, list)); err != nil {
		return err
	}
	p.judge(sets)
	return nil
}

func (p *proxies) judge(sets []*proxySet) {
	var conditions []condition
	for _, set := range sets {
		ofHandler := 1.05
		if set.size.bytes > 0 {
			ofHandler = 1.1
		}
		conditions = append(conditions, atMost("handler to static header, ticket "+set.size.name, set.handler.side.to(set.static.side), ofHandler))
		if set.transport != nil {
			conditions = append(conditions, atMost("transport to static header, ticket "+set.size.name, set.transport.side.to(set.static.side), 1.05))
		}
	}
	p.bench.judge(5, "processor time of Caddy for a request", conditions...)
	large := sets[len(sets)-1]
	if large.transport == nil {
		p.bench.judge(6, "write buffer", leftOut("transport", "not in this build"))
		return
	}
	p.bench.judge(6, "write buffer, ticket of "+large.size.name,
		atMost("transport by itself to transport with Caddy's default of 4 KiB", large.transport.side.to(large.narrow.side), 1))
}

// profiles writes profiles of each variant under load.
func (p *proxies) profiles() error {
	if p.Profiles == "" {
		return nil
	}
	if err := os.MkdirAll(p.Profiles, 0o755); err != nil {
		return err
	}
	for i, v := range p.all {
		for _, kind := range []string{"profile", "allocs"} {
			name := fmt.Sprintf("%d-%s.%s.pprof", i, strings.ReplaceAll(v.name, " ", "-"), kind)
			if err := v.profiled(kind, filepath.Join(p.Profiles, name), pick(p.bench, 10, 2)); err != nil {
				return fmt.Errorf("profile of %s: %w", v.name, err)
			}
		}
	}
	return nil
}

// profiled sends requests until the profile has been fetched.
func (v *variant) profiled(kind, path string, seconds int) error {
	done := make(chan error, 1)
	go func() { done <- v.caddy.profile(kind, path, seconds) }()
	for {
		select {
		case err := <-done:
			return err
		default:
			if err := v.load.send(800); err != nil {
				return err
			}
		}
	}
}

// micros formats nanoseconds as microseconds.
func micros(ns float64) string { return fmt.Sprintf("%.1f us", ns/1e3) }
