package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// userCounts are how many users there are, with the most processor time that a request may
// take: by default to a static header, and with shared connections to one user's.
var userCounts = []struct {
	users         int
	alone, shared float64
}{{1, 1.15, 1.40}, {100, 1.20, 1.10}, {1000, 2.0, 1.15}, {5000, 2.5, 1.20}, {20_000, 2.5, 1.25}}

// manyKept is the number of users who are measured also with a bound on idle connections that
// each of them meets.
const manyKept = 5000

const tlsName = "web.corp.example"

// users measures Caddy's processor time with many end users.
func (b *bench) users(ctx context.Context) error {
	b.section("Many users", "Processor time of the Caddy process for a request with `impersonate`: 16 requests at once, users drawn at random, tickets held, loopback only. "+
		"*Default*: each user has connections of their own, the upstream verifies no token. *Shared*: `share_connections`, and the upstream verifies and proves "+
		"each token; the ratio is to one user with it, and for one user to the static header. *user_connections* raises the bound on idle connections. *Static* sets a constant Authorization of the same length. "+
		"Each Caddy is measured in turns with the one that it is compared to, and is new for each line. New connections are those of 1000 requests; the KDC's "+
		"exchanges those for a user's first request and, after the sign, of all that is measured. "+
		"Tickets and connections are what the heap and the stacks of goroutines take, after garbage collection, beyond a Caddy without users.")
	u := &manyUsers{bench: b, ctx: ctx, most: pick(b, userCounts[len(userCounts)-1].users, 40)}
	defer u.stop()
	if err := u.start(); err != nil {
		return err
	}
	for _, scheme := range []string{"http", "https"} {
		if err := u.measure(scheme); err != nil {
			return fmt.Errorf("%s: %w", scheme, err)
		}
	}
	u.table([]string{"", "users", "connections", "processor time a request", "ratio", "new connections", "resumed", "KDC", "tickets", "their own bytes", "idle connections", "of one"}, u.rows)
	u.judge(10, "many users, TLS: processor time of Caddy for a request", u.conditions...)
	return nil
}

// manyUsers is the measurement.
type manyUsers struct {
	*bench
	ctx     context.Context
	most    int
	site    *site
	program string
	cert    string // path of the upstream's certificate
	key     string
	webKeys string // keytab of the service

	started    []func()
	rows       [][]string
	conditions []condition
}

func (u *manyUsers) stop() {
	for _, stop := range u.started {
		stop()
	}
}

// start starts the realm and makes what the upstreams need.
func (u *manyUsers) start() (err error) {
	if u.program, err = build(u.ctx, u.folder, "caddy", "github.com/caddy-negotiate/caddy-negotiate/cmd/caddy"); err != nil {
		return err
	}
	folder, err := os.MkdirTemp(u.folder, "users-")
	if err != nil {
		return err
	}
	if u.site, err = newSite(folder, kdctest.SPN("HTTP/proxy.corp.example"), kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo(webName)); err != nil {
		return err
	}
	u.started = append(u.started, u.site.stop)
	for i := range u.most {
		u.site.realm.AddService(userName(i))
	}
	if u.webKeys, err = u.site.webKeytab(); err != nil {
		return err
	}
	u.cert, u.key = filepath.Join(folder, "web.crt"), filepath.Join(folder, "web.key")
	cert, key, err := selfSigned()
	if err != nil {
		return err
	}
	return errors.Join(u.site.realm.Err(), os.WriteFile(u.cert, cert, 0o600), os.WriteFile(u.key, key, 0o600))
}

// selfSigned makes a certificate for tlsName and its key, in PEM.
func selfSigned() (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{tlsName}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), err
}

// userCaddy is a Caddy with an upstream of its own.
type userCaddy struct {
	*variant
	upstream string // URL
	empty    int64  // memory without users
	asked    int    // exchanges with the KDC for the first request of each user
}

// caddyFor starts a Caddy with an upstream. Without a line for the transport it sends the
// static header.
func (u *manyUsers) caddyFor(scheme, name, line string, users int, proven bool, static string) (*userCaddy, error) {
	var args []string
	if scheme == "https" {
		args = append(args, "-cert", u.cert, "-key", u.key)
	}
	if proven {
		args = append(args, "-keytab", u.webKeys)
	}
	upstream, at, err := upstreamAt(u.ctx, u.folder, args...)
	if err != nil {
		return nil, err
	}
	c := &userCaddy{upstream: scheme + "://" + at}
	secured := ""
	if scheme == "https" {
		secured = fmt.Sprintf("\t\t\ttls_server_name %s\n\t\t\ttls_trust_pool file %s\n", tlsName, u.cert)
	}
	block := fmt.Sprintf("\trequest_header Authorization %q\n\treverse_proxy %s {\n\t\ttransport http {\n\t\t\tversions 1.1\n%s\t\t}\n\t}", static, c.upstream, secured)
	if static == "" {
		block = fmt.Sprintf("\treverse_proxy %s {\n\t\ttransport negotiate {\n\t\t\tkdc %s\n\t\t\tuser %s\n\t\t\tkeytab %s\n\t\t\tspn %s\n\t\t\timpersonate {http.request.header.%s}\n\t\t\ttrust_header %[6]s\n%s%s\t\t}\n\t}",
			c.upstream, u.site.kdc.Addr(), u.site.proxy, u.site.keytab, webName, userHeader, secured, line)
	}
	running, err := startCaddy(u.ctx, u.folder, u.program, strings.NewReplacer(" ", "-", ",", "").Replace(name), block)
	if err != nil {
		upstream.stop()
		return nil, err
	}
	u.started = append(u.started, running.stop, upstream.stop)
	c.variant = &variant{name: name, caddy: running}
	if c.empty, err = running.memory(); err != nil {
		return nil, err
	}
	if c.load, err = dial(running.addr, 16); err != nil {
		return nil, err
	}
	u.started = append(u.started, c.load.close)
	c.load.users = users
	c.side = &side{name: name, n: pick(u.bench, 4000, 320), run: c.run}
	u.site.kdc.ResetCounts()
	err = c.load.sendOf(users) // to get each user's tickets
	c.asked = u.site.exchanges()
	return c, err
}

// run returns the processor time of n requests.
func (c *userCaddy) run(n int) (time.Duration, error) {
	before, err := c.caddy.cpu()
	if err != nil {
		return 0, err
	}
	if err := c.load.send(n); err != nil {
		return 0, err
	}
	after, err := c.caddy.cpu()
	return after - before, err
}

// connectionCounts are the upstream's.
type connectionCounts struct{ accepted, resumed, open int }

func (c *userCaddy) counts() (n connectionCounts, err error) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	response, err := client.Get(c.upstream + "/connections")
	if err != nil {
		return n, err
	}
	defer response.Body.Close()
	_, err = fmt.Fscan(response.Body, &n.accepted, &n.resumed, &n.open)
	n.accepted-- // this one
	n.open--
	return n, err
}

// measure measures all numbers of users with one scheme.
func (u *manyUsers) measure(scheme string) error {
	header, err := u.header(scheme)
	if err != nil {
		return err
	}
	static, err := u.caddyFor(scheme, scheme+" static", "", 1, false, header)
	if err != nil {
		return err
	}
	one, err := u.caddyFor(scheme, scheme+" shared 1", "\t\t\tshare_connections\n", 1, true, "")
	if err != nil {
		return err
	}
	for _, row := range userCounts {
		users := min(row.users, u.most)
		u.logf("%s, %d users", scheme, users)
		alone, err := u.caddyFor(scheme, fmt.Sprintf("%s default %d", scheme, users), "", users, false, "")
		if err != nil {
			return err
		}
		if err := u.cell(scheme, "default", users, alone, static, row.alone); err != nil {
			return err
		}
		shared, against := one, static
		if users > 1 {
			against = one
			if shared, err = u.caddyFor(scheme, fmt.Sprintf("%s shared %d", scheme, users), "\t\t\tshare_connections\n", users, true, ""); err != nil {
				return err
			}
		}
		if err := u.cell(scheme, "shared", users, shared, against, row.shared); err != nil {
			return err
		}
		if users != manyKept {
			continue
		}
		line := fmt.Sprintf("user_connections %d", 2*users)
		kept, err := u.caddyFor(scheme, scheme+" "+line, "\t\t\t"+line+"\n", users, false, "")
		if err != nil {
			return err
		}
		if err := u.cell(scheme, line, users, kept, static, 0); err != nil {
			return err
		}
	}
	return nil
}

// header is what the upstream gets from a Caddy with one user.
func (u *manyUsers) header(scheme string) (string, error) {
	c, err := u.caddyFor(scheme, scheme+" header", "", 1, false, "")
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(u.ctx, http.MethodGet, "http://"+c.caddy.addr+"/authorization", nil)
	if err != nil {
		return "", err
	}
	request.Header.Set(userHeader, userName(0))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	header, err := io.ReadAll(response.Body)
	if !strings.HasPrefix(string(header), "Negotiate ") {
		return "", fmt.Errorf("%w: %.40q, %v", errNoToken, header, err)
	}
	return string(header), err
}

// cell measures one line of the table and writes it; a bound of 0 is none.
func (u *manyUsers) cell(scheme, how string, users int, c, against *userCaddy, bound float64) error {
	u.site.kdc.ResetCounts()
	if err := c.load.send(c.side.n / 2); err != nil {
		return err
	}
	before, err := c.counts()
	if err != nil {
		return err
	}
	c.side.samples, against.side.samples = nil, nil
	rounds := pick(u.bench, 15, 2)
	if err := race(rounds, 0, c.side, against.side); err != nil {
		return err
	}
	after, err := c.counts()
	if err != nil {
		return err
	}
	later := u.site.exchanges()
	memory, err := c.split(u.Quick)
	if err != nil {
		return err
	}
	opened, requests := after.accepted-before.accepted, rounds*c.side.n
	resumed := "-"
	if scheme == "https" && opened > 0 {
		resumed = fmt.Sprintf("%.1f %%", 100*float64(after.resumed-before.resumed)/float64(opened))
	}
	ratio := c.side.to(against.side)
	u.rows = append(u.rows, []string{
		scheme, strconv.Itoa(users), how, micros(c.side.result().median), ratio.String(), fmt.Sprintf("%.1f", 1000*float64(opened)/float64(requests)), resumed,
		fmt.Sprintf("%.2f + %d", float64(c.asked)/float64(users), later), mebibytes(memory.tickets), mebibytes(memory.own),
		fmt.Sprintf("%d, %s", memory.idle, mebibytes(memory.connections)), memory.ofOne(),
	})
	if scheme != "https" {
		return nil
	}
	name := fmt.Sprintf("%d users, %s", users, how)
	if bound > 0 {
		u.conditions = append(u.conditions, atMost(name, ratio, bound))
	}
	if users == u.most && users > 1 {
		u.conditions = append(u.conditions, atMost(name+", MiB of tickets", number(float64(memory.tickets)/(1<<20)), float64(2*memory.own)/(1<<20)+64))
	}
	return u.profile(c)
}

// fewConnections are too few to measure what one takes.
const fewConnections = 100

// split waits until idle connections are closed, to tell what they took from what
// tickets take, unless there are few.
func (c *userCaddy) split(quick bool) (m userMemory, err error) {
	with, err := c.caddy.memory()
	if err != nil {
		return m, err
	}
	counts, err := c.counts()
	if err != nil {
		return m, err
	}
	m.idle = counts.open
	for end := time.Now().Add(time.Minute); counts.open > 0 && m.idle >= fewConnections && !quick && time.Now().Before(end); {
		time.Sleep(500 * time.Millisecond)
		if counts, err = c.counts(); err != nil {
			return m, err
		}
	}
	without, err := c.caddy.memory()
	if err != nil {
		return m, err
	}
	m.connections, m.tickets = with-without, without-c.empty
	m.own, err = c.caddy.ticketBytes()
	return m, err
}

// userMemory is what a Caddy has for its users, in bytes.
type userMemory struct {
	tickets, own int64 // the heap's share, and what the cache counts
	idle         int   // connections
	connections  int64
}

func (m userMemory) ofOne() string {
	if m.idle < fewConnections || m.connections <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f kB", float64(m.connections)/float64(m.idle)/1e3)
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(max(0, n))/(1<<20)) }

// memory is the heap after garbage collection, and the stacks.
func (c *caddy) memory() (int64, error) {
	if _, err := c.admin200("/debug/pprof/heap?gc=1"); err != nil {
		return 0, err
	}
	text, err := c.admin200("/metrics")
	if err != nil {
		return 0, err
	}
	var sum float64
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "go_memstats_heap_alloc_bytes" || name == "go_memstats_stack_inuse_bytes" {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	if sum == 0 {
		return 0, errors.New("Caddy's metrics do not have the size of the heap")
	}
	return int64(sum), nil
}

// ticketBytes is what the tickets take, as the cache counts it.
func (c *caddy) ticketBytes() (sum int64, err error) {
	text, err := c.admin200("/kerberos/tickets")
	if err != nil {
		return 0, err
	}
	var tickets []struct{ Bytes int64 }
	err = json.Unmarshal(text, &tickets)
	for _, t := range tickets {
		sum += t.Bytes
	}
	return sum, err
}

// admin200 asks the admin endpoint.
func (c *caddy) admin200(path string) ([]byte, error) {
	response, err := http.Get("http://" + c.admin + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %.200s", path, response.Status, text)
	}
	return text, err
}

// profile writes a profile of processor time under load.
func (u *manyUsers) profile(c *userCaddy) error {
	if u.Profiles == "" {
		return nil
	}
	if err := os.MkdirAll(u.Profiles, 0o755); err != nil {
		return err
	}
	return c.profiled("profile", filepath.Join(u.Profiles, strings.ReplaceAll(c.name, " ", "-")+".profile.pprof"), pick(u.bench, 10, 2))
}
