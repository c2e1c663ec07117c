package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// allETypes are the types of MIT 1.20, which has no single DES.
var allETypes = []string{
	"aes256-cts-hmac-sha1-96", "aes128-cts-hmac-sha1-96",
	"aes256-cts-hmac-sha384-192", "aes128-cts-hmac-sha256-128",
	"camellia256-cts-cmac", "camellia128-cts-cmac",
	"arcfour-hmac", "des3-cbc-sha1",
}

// MITOptions configure a realm; the zero value is LAB.TEST without users.
type MITOptions struct {
	// Realm is in capitals; its hosts are those of the domain with that name.
	Realm string
	// Principals are the initial ones; [MIT.Add] adds more.
	Principals []Principal
	// Policies are arguments of kadmin's addpol, such as
	// `-maxfailure 3 -lockoutduration 20 lockout`.
	Policies []string
	// ETypes are those of the keys of principals that name none and of the TGT, by
	// MIT's names. The default is all except des3.
	ETypes []string
	// MaxLife and MaxRenewLife bound every ticket; default: 10 hours and 7 days.
	MaxLife, MaxRenewLife time.Duration
	// MaxDatagram bounds replies over UDP, in bytes; larger ones become
	// KRB_ERR_RESPONSE_TOO_BIG. Default: 4096.
	MaxDatagram int
	// Skew is the error of the KDC's clock, in whole seconds.
	Skew time.Duration
	// KDCConf are further lines for the realm's section of kdc.conf, such as
	// `disable_encrypted_timestamp = true`.
	KDCConf []string
	// KDCLibDefaults are further lines for libdefaults of the krb5.conf that
	// the KDC reads, such as `spake_preauth_groups = edwards25519`.
	KDCLibDefaults []string
}

// MIT is a realm with the process of its KDC.
type MIT struct {
	opts MITOptions
	dir  string
	port int
	env  []string

	kpasswdPort, kadmindPort int

	mu      sync.Mutex // guards the fields below
	trusted []*MIT
	proc    *process
	keytabs int
}

// StartMIT makes a realm and starts its KDC, which ends with the test.
func StartMIT(t testing.TB, opts MITOptions) *MIT {
	t.Helper()
	Require(t, KDC)
	if opts.Skew != 0 {
		Require(t, Faketime)
	}
	opts.fill()
	m := &MIT{opts: opts, dir: testDir(t, "mit"), port: FreePort(t), kpasswdPort: FreePort(t), kadmindPort: FreePort(t)}
	m.env = environment(m.dir, "KRB5_CONFIG="+m.path("kdc.krb5.conf"), "KRB5_KDC_PROFILE="+m.path("kdc.conf"), "KRB5RCACHENAME=none:")
	if err := m.configure(); err != nil {
		t.Fatal(err)
	}
	if _, err := run(m.env, m.dir, "", "kdb5_util", "-r", opts.Realm, "-P", "master-secret", "create", "-s"); err != nil {
		t.Fatal(err)
	}
	queries := make([]string, 0, len(opts.Policies)+len(opts.Principals))
	for _, p := range opts.Policies {
		queries = append(queries, "addpol "+p)
	}
	for _, p := range opts.Principals {
		queries = append(queries, p.addprinc(opts.ETypes))
	}
	m.Kadmin(t, queries...)
	t.Cleanup(m.Stop)
	m.Start(t)
	return m
}

func (o *MITOptions) fill() {
	if o.Realm == "" {
		o.Realm = "LAB.TEST"
	}
	if o.ETypes == nil {
		o.ETypes = slices.DeleteFunc(slices.Clone(allETypes), func(e string) bool { return e == "des3-cbc-sha1" })
	}
	if o.MaxLife == 0 {
		o.MaxLife = 10 * time.Hour
	}
	if o.MaxRenewLife == 0 {
		o.MaxRenewLife = 7 * 24 * time.Hour
	}
	if o.MaxDatagram == 0 {
		o.MaxDatagram = 4096
	}
}

// configure writes the configuration of the KDC and its clients.
func (m *MIT) configure() error {
	kdcs := m.knownKDCs()
	domains := make([][2]string, 0, 1+len(m.trusted))
	domains = append(domains, m.domain())
	client := krb5Conf(m.opts.Realm, nil, kdcs, domains)
	for _, other := range m.trusted { // the KDC refers clients there
		domains = append(domains, other.domain())
	}
	kdc := krb5Conf(m.opts.Realm, m.opts.KDCLibDefaults, kdcs, domains)
	profile := fmt.Sprintf(`[kdcdefaults]
 kdc_max_dgram_reply_size = %d
[realms]
 %s = {
  database_name = %s
  key_stash_file = %s
  acl_file = %s
  kdc_listen = %s
  kdc_tcp_listen = %[6]s
  kpasswd_listen = %[12]s
  kadmind_listen = %[13]s
  master_key_type = aes256-cts-hmac-sha1-96
  supported_enctypes = %[7]s
  max_life = %s
  max_renewable_life = %s
  default_principal_flags = +forwardable,+renewable
  host_based_services = HTTP
  %s
 }
[logging]
 kdc = FILE:%s
 default = STDERR
`, m.opts.MaxDatagram, m.opts.Realm, m.path("db"), m.path("db.stash"), m.path("db.acl"), m.KDC(),
		keySalts(m.opts.ETypes, "normal"), seconds(m.opts.MaxLife), seconds(m.opts.MaxRenewLife),
		strings.Join(m.opts.KDCConf, "\n  "), m.LogPath(), m.Kpasswd(), fmt.Sprintf("%s:%d", Host(), m.kadmindPort))
	for name, text := range map[string]string{
		"krb5.conf": client, "kdc.krb5.conf": kdc, "kdc.conf": profile, "db.acl": "",
	} {
		if err := writeFile(m.path(name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (m *MIT) path(name string) string { return filepath.Join(m.dir, name) }

func (m *MIT) domain() [2]string {
	return [2]string{strings.ToLower(m.opts.Realm), m.opts.Realm}
}

func (m *MIT) knownKDCs() [][2]string {
	kdcs := make([][2]string, 0, 1+len(m.trusted))
	kdcs = append(kdcs, [2]string{m.opts.Realm, m.KDC()})
	for _, other := range m.trusted {
		kdcs = append(kdcs, [2]string{other.opts.Realm, other.KDC()})
	}
	return kdcs
}

// Name returns the realm's name.
func (m *MIT) Name() string { return m.opts.Realm }

// KDC returns host:port, UDP and TCP.
func (m *MIT) KDC() string { return fmt.Sprintf("%s:%d", Host(), m.port) }

// Krb5Conf returns the path of a krb5.conf for clients. It names the KDCs of trusted
// realms but not their hosts, so that clients need referrals.
func (m *MIT) Krb5Conf() string { return m.path("krb5.conf") }

func (m *MIT) clientConf(libdefaults ...string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return krb5Conf(m.opts.Realm, libdefaults, m.knownKDCs(), [][2]string{m.domain()})
}

// Start starts the KDC, as [StartMIT] did, if it is not running.
func (m *MIT) Start(t testing.TB) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
}

func (m *MIT) start() error {
	if m.proc != nil {
		return nil
	}
	fake, err := faketime(m.opts.Skew)
	if err != nil {
		return err
	}
	begun := m.startCount()
	proc, err := start(m.path("krb5kdc.out"), slices.Concat(m.env, fake), "krb5kdc", "-n", "-r", m.opts.Realm)
	if err != nil {
		return err
	}
	if err := proc.ready(2*time.Minute, "krb5kdc of "+m.opts.Realm, func() bool { return m.startCount() > begun }); err != nil {
		proc.stop()
		return fmt.Errorf("%w\n%s", err, tail(m.LogPath()))
	}
	m.proc = proc
	return nil
}

// startCount returns how often the KDC has started to listen.
func (m *MIT) startCount() int {
	text, _ := os.ReadFile(m.LogPath())
	return strings.Count(string(text), "commencing operation")
}

// Stop ends the KDC: its port refuses connections.
func (m *MIT) Stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.proc.stop()
	m.proc = nil
}

// Pause suspends the KDC: UDP is not answered, and TCP is accepted and then stalls.
// [MIT.Resume] resumes it.
func (m *MIT) Pause() { m.signal(pause) }

// Resume reverses [MIT.Pause].
func (m *MIT) Resume() { m.signal(resume) }

func (m *MIT) signal(how func(*os.Process)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proc != nil {
		how(m.proc.cmd.Process)
	}
}

// Trust joins two realms in both directions: users of each get tickets for services of
// the other, to which each KDC refers by the hosts' domain.
func (m *MIT) Trust(t testing.TB, other *MIT) {
	t.Helper()
	a, b := m.opts.Realm, other.opts.Realm
	for _, r := range []*MIT{m, other} {
		for _, krbtgt := range [][2]string{{a, b}, {b, a}} {
			// both databases derive the same keys from it
			name := fmt.Sprintf("krbtgt/%s@%s", krbtgt[0], krbtgt[1])
			r.Kadmin(t, fmt.Sprintf("addprinc -e %s -pw %s %s",
				quote(keySalts(allETypes[:4], "normal")), quote("trust "+name), name))
		}
	}
	m.trust(t, other)
	other.trust(t, m)
}

func (m *MIT) trust(t testing.TB, other *MIT) {
	t.Helper()
	m.Stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trusted = append(m.trusted, other)
	if err := m.configure(); err != nil {
		t.Fatal(err)
	}
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
}

// Add adds principals.
func (m *MIT) Add(t testing.TB, principals ...Principal) {
	t.Helper()
	queries := make([]string, len(principals))
	for i, p := range principals {
		queries[i] = p.addprinc(m.opts.ETypes)
	}
	m.Kadmin(t, queries...)
}

// kadmin.local continues after an error and exits 0.
var kadminErrors = regexp.MustCompile(`(?m) while |^[Uu]sage|[Uu]nknown request|Invalid |^[a-z_]+: `)

// Kadmin runs queries of kadmin.local and returns its output.
func (m *MIT) Kadmin(t testing.TB, queries ...string) string {
	t.Helper()
	if len(queries) == 0 {
		return ""
	}
	out, err := run(m.env, m.dir, strings.Join(queries, "\n")+"\n", "kadmin.local", "-r", m.opts.Realm)
	if err != nil {
		t.Fatal(err)
	}
	said := strings.ReplaceAll(out, "kadmin.local:  ", "")
	said = strings.ReplaceAll(said, "kadmin.local: ", "")
	if kadminErrors.MatchString(said) {
		t.Fatalf("kadmin.local: %s\nasked:\n%s", said, strings.Join(queries, "\n"))
	}
	return said
}

// Keytab exports the principals' current keys into a new file.
func (m *MIT) Keytab(t testing.TB, principals ...string) string {
	t.Helper()
	m.mu.Lock()
	m.keytabs++
	path := m.path(fmt.Sprintf("%d.keytab", m.keytabs))
	m.mu.Unlock()
	queries := make([]string, len(principals))
	for i, p := range principals {
		queries[i] = fmt.Sprintf("ktadd -norandkey -k %s %s", quote(path), quote(p))
	}
	m.Kadmin(t, queries...)
	return path
}
