package caddynegotiate

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"
)

// checkFlags say what to check, and how patiently.
type checkFlags struct {
	configFlags
	identity, spn, url, user string
	json                     bool
	patience                 time.Duration
}

func newCheckCommand() *cobra.Command {
	f := new(checkFlags)
	cmd := &cobra.Command{
		Use:   "check --config FILE [--adapter NAME] [--envfile FILE] [--identity NAME] [--spn SPN] [--url URL] [--user USER] [--json]",
		Short: "Walks every step that a request takes, and says what is wrong and how to mend it",
		Long: "Reads the configuration and walks every step that a request takes, against the real KDC and upstream: configuration,\n" +
			"files, KDC discovery, reachability by each protocol, clock, login, service ticket, delegation, HTTP request.\n" +
			"Each step is ok, warn or FAIL, with what came, what it means and how to mend it. The exit status is 0 unless one FAILs.\n" +
			"It logs in once, or twice if it is refused: a wrong password counts towards the account's lockout. What it sends to the\n" +
			"upstream are GET requests.",
		Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error { return f.run(cmd) }),
	}
	f.configFlags.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.identity, "identity", "", "Check this identity only, by its name or its principal")
	flags.StringVar(&f.spn, "spn", "", "Service principal to get a ticket for, instead of the configuration's")
	flags.StringVar(&f.url, "url", "", "URL to request at the upstream, or a path there (default: / at the configuration's upstream)")
	flags.StringVar(&f.user, "user", "", "End user to act for")
	flags.BoolVar(&f.json, "json", false, "Write JSON")
	flags.DurationVar(&f.patience, "patience", 3*time.Second, "How long a KDC or upstream may be silent")
	return cmd
}

func (f *checkFlags) run(cmd *cobra.Command) error {
	ctx, stop := signal.NotifyContext(contextOf(cmd), os.Interrupt)
	defer stop()
	r := &report{console: consoleOf(cmd), quiet: f.json}
	if err := f.walk(ctx, cmd.InOrStdin(), r); err != nil {
		return err
	}
	return r.end()
}

func contextOf(cmd *cobra.Command) context.Context {
	if ctx := cmd.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}

// The steps, in the order in which a request takes them.
const (
	stepConfig     = "configuration"
	stepFiles      = "files"
	stepDiscovery  = "discovery"
	stepReach      = "reachability"
	stepClock      = "clock"
	stepLogin      = "login"
	stepTicket     = "ticket"
	stepDelegation = "delegation"
	stepUpstream   = "upstream"
)

// The outcomes of a step.
const (
	statusOK   = "ok"
	statusWarn = "warn"
	statusFail = "FAIL"
)

// The causes that are told apart. Where a step has several, the protocol cannot
// tell which of them it is, and the remedy says how people can.
const (
	causeWrongPassword   = "wrong_password"
	causeKeytabVersion   = "keytab_version"
	causeKeytabSalt      = "keytab_salt"
	causeWeakKeys        = "weak_keys"
	causeEType           = "no_common_etype"
	causeAccount         = "account"
	causeUnknownSPN      = "unknown_spn"
	causeOtherAccount    = "spn_on_other_account"
	causeServiceKey      = "service_key_changed"
	causeKDCDead         = "kdc_dead"
	causeClock           = "clock"
	causeBinding         = "channel_binding"
	causeUserFlag        = "user_not_delegable"
	causeOurFlag         = "account_not_trusted_to_authenticate"
	causeTarget          = "service_not_in_delegation_list"
	causeUserUnknown     = "user_unknown"
	causeTokenSize       = "token_too_long"
	causeRoute           = "negotiate_reaches_no_proxy"
	causeHTTP2           = "http2"
	causeNotAllowed      = "user_may_not_enter"
	causeNoNegotiate     = "upstream_offers_no_negotiate"
	causeUnreachable     = "upstream_unreachable"
	causeTLS             = "upstream_certificate"
	causeNoProof         = "no_mutual_authentication"
	causeDropped         = "authorization_dropped"
	causeConfiguration   = "configuration"
	causeFilePermissions = "file_permissions"
)

// step is one line of the report.
type step struct {
	Subject string   `json:"subject,omitempty"`
	Step    string   `json:"step"`
	Status  string   `json:"status"`
	Text    string   `json:"text"`
	Remedy  string   `json:"remedy,omitempty"`
	Causes  []string `json:"causes,omitempty"`
}

// report gathers the steps, and writes each as it comes.
type report struct {
	*console
	quiet   bool // JSON, at the end
	subject string
	printed string // the subject that stands above what is written now
	Steps   []step
}

// about sets whom the next steps are about.
func (r *report) about(subject string) { r.subject = subject }

func (r *report) add(s step) {
	s.Subject = r.subject
	r.Steps = append(r.Steps, s)
	if r.quiet {
		return
	}
	r.settle()
	if r.printed != r.subject {
		fmt.Fprintf(r.out, "%s\n", r.paint(bold, r.subject))
		r.printed = r.subject
	}
	colour := map[string]string{statusOK: green, statusWarn: yellow, statusFail: red}[s.Status]
	fmt.Fprintf(r.out, "  %s  %-13s  %s\n", r.paint(colour, fmt.Sprintf("%-4s", s.Status)), s.Step, s.Text)
	if s.Remedy != "" {
		fmt.Fprintf(r.out, "        -> %s\n", strings.ReplaceAll(s.Remedy, "\n", "\n           "))
	}
}

func (r *report) ok(name, format string, args ...any) {
	r.add(step{Step: name, Status: statusOK, Text: fmt.Sprintf(format, args...)})
}

func (r *report) warn(name, text, remedy string, causes ...string) {
	r.add(step{Step: name, Status: statusWarn, Text: text, Remedy: remedy, Causes: causes})
}

func (r *report) fail(name, text, remedy string, causes ...string) {
	r.add(step{Step: name, Status: statusFail, Text: text, Remedy: remedy, Causes: causes})
}

func (r *report) progress(format string, args ...any) {
	if !r.quiet {
		r.console.progress(fmt.Sprintf(format, args...))
	}
}

// end writes what it all came to.
func (r *report) end() error {
	count := map[string]int{}
	for _, s := range r.Steps {
		count[s.Status]++
	}
	if r.quiet {
		view := struct {
			OK       bool   `json:"ok"`
			Failures int    `json:"failures"`
			Warnings int    `json:"warnings"`
			Steps    []step `json:"steps"`
		}{count[statusFail] == 0, count[statusFail], count[statusWarn], r.Steps}
		if err := r.writeJSON(view); err != nil {
			return err
		}
	} else {
		r.settle()
		switch {
		case count[statusFail] > 0:
			fmt.Fprintf(r.out, "%s: %d failed, %d to be looked at\n", r.paint(red, "not sound"), count[statusFail], count[statusWarn])
		case count[statusWarn] > 0:
			fmt.Fprintf(r.out, "%s, %d to be looked at\n", r.paint(green, "sound"), count[statusWarn])
		default:
			fmt.Fprintf(r.out, "%s\n", r.paint(green, "sound"))
		}
	}
	if count[statusFail] > 0 {
		return errSaid
	}
	return nil
}

// walk takes all steps. Its errors are of the command line, not of the set-up.
func (f *checkFlags) walk(ctx context.Context, stdin io.Reader, r *report) error {
	file, config, warnings, err := f.load(stdin)
	if err != nil && file == "" {
		return err
	}
	r.about(file)
	if err != nil {
		r.fail(stepConfig, err.Error(), "", causeConfiguration)
		return nil
	}
	for _, w := range warnings {
		r.warn(stepConfig, fmt.Sprintf("%s:%d: %s", w.File, w.Line, w.Message), "")
	}
	doc, err := readDocument(config)
	if err != nil {
		r.fail(stepConfig, err.Error(), "", causeConfiguration)
		return nil
	}
	target, err := f.target()
	if err != nil {
		return err
	}
	env, release, err := newCheckContext(doc)
	if err != nil {
		return err
	}
	defer release()
	c := &check{flags: f, doc: doc, report: r, url: target, env: env, patience: f.patience}
	return c.run(ctx)
}

// target reads --url: a whole one, or a path at the upstream.
func (f *checkFlags) target() (*url.URL, error) {
	if f.url == "" {
		return nil, nil
	}
	u, err := url.Parse(f.url)
	if err != nil {
		return nil, fmt.Errorf("--url: %w", err)
	}
	if u.Host == "" && len(u.Path) > 0 && u.Path[0] == '/' {
		return u, nil
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("--url %s is neither an http(s) URL nor a path", f.url)
	}
	return u, nil
}

// newCheckContext gives the context in which modules of the configuration can be made
// without running it. Nothing listens, and what they log is not shown: the steps say it.
func newCheckContext(doc *document) (caddy.Context, func(), error) {
	cfg := &caddy.Config{Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		caddy.DefaultLoggerName: {BaseLog: caddy.BaseLog{Level: zapcore.FatalLevel.String()}},
	}}}
	base, err := caddy.ProvisionContext(cfg)
	if err != nil {
		return caddy.Context{}, nil, err
	}
	cfg.AppsRaw = make(caddy.ModuleMap)
	for _, name := range []string{"kerberos", "pki"} {
		if raw := doc.raw[name]; len(raw) > 0 {
			cfg.AppsRaw[name] = raw
		}
	}
	ctx, cancel := caddy.NewContext(base)
	return ctx, cancel, nil
}

// check is one run of the command.
type check struct {
	*report
	flags    *checkFlags
	doc      *document
	url      *url.URL
	env      caddy.Context
	patience time.Duration
}

// run checks each identity and, under it, each place that uses it.
func (c *check) run(ctx context.Context) error {
	sites := c.checkConfiguration()
	found := false
	accounts := c.doc.accounts(sites)
	for _, w := range accounts {
		if len(w.sites) == 0 && c.flags.spn != "" {
			w.sites = []*site{{use: &use{where: "--spn"}, handler: new(Handler)}}
		}
	}
	for _, who := range accounts {
		if c.flags.identity != "" && !who.is(c.flags.identity, c.doc.app) {
			continue
		}
		found = true
		c.about(who.title())
		if c.checkAccount(ctx, who) {
			for _, s := range who.sites {
				c.checkSite(ctx, who, s)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if !found && c.flags.identity != "" {
		return fmt.Errorf("no identity of the configuration is called %q", c.flags.identity)
	}
	if !found && !slices.ContainsFunc(c.Steps, func(s step) bool { return s.Status == statusFail }) {
		c.fail(stepConfig, "the configuration uses neither negotiate nor transport negotiate, and defines no identity",
			"put a negotiate block before reverse_proxy, or transport negotiate into it", causeConfiguration)
	}
	return nil
}

// accounts lists whom the configuration logs in as: named identities first, then those
// that stand in the places that use them.
func (d *document) accounts(sites []*site) []*who {
	var all []*who
	named := make(map[string]*who)
	for _, name := range slices.Sorted(maps.Keys(d.app.Identities)) {
		named[name] = &who{name: name, credentials: d.app.Identities[name]}
		all = append(all, named[name])
	}
	for _, s := range sites {
		login := s.login()
		switch w, ok := named[login.Identity]; {
		case ok:
			w.sites = append(w.sites, s)
		case login.Credentials != nil:
			all = append(all, &who{credentials: login.Credentials, sites: []*site{s}})
		}
	}
	return all
}
