package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// checkFlags are the flags of `check`.
type checkFlags struct {
	configFlags
	checkOptions
	url  string
	json bool
}

func newCheckCommand() *cobra.Command {
	f := new(checkFlags)
	cmd := &cobra.Command{
		Use: "check --config FILE [--adapter NAME] [--envfile FILE] [--identity NAME] [--spn SPN] [--url URL] [--user USER [--password-file FILE]] [--json]\n" +
			"  caddy kerberos check --platform [--spn SPN] [--url URL] [--json]",
		Short: "Tests every step of a request, and says what is wrong and how to fix it",
		Long: "Reads the configuration and tests every step of a request against the real KDC and upstream: configuration, files,\n" +
			"KDC discovery, reachability by each protocol, clock, login, service ticket, delegation, HTTP request.\n" +
			"Each step is ok, warn or FAIL, with what happened, what it means and how to fix it. The exit status is 0 unless a step\n" +
			"is FAIL. It logs in once, or twice if the login is refused: a wrong password counts towards the account's lockout. It\n" +
			"sends GET requests to the upstream.\n\n" +
			"With --platform it needs no configuration: on Windows it shows what Windows says about the account that it runs as,\n" +
			"its tickets, and a token for the service of --spn or --url.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := f.run(cmd)
			cmd.SilenceErrors = errors.Is(err, errReported)
			return err
		},
	}
	f.configFlags.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.identity, "identity", "", "Check this identity only, by its name or its principal")
	flags.StringVar(&f.spn, "spn", "", "Service principal to get a ticket for, instead of the configuration's")
	flags.StringVar(&f.url, "url", "", "URL to request at the upstream, or a path there (default: / at the configuration's upstream)")
	flags.StringVar(&f.user, "user", "", "End user to impersonate, or to sign in as")
	flags.StringVar(&f.passwordFile, "password-file", "", "File with the password of --user, to sign in at negotiate_auth")
	flags.BoolVar(&f.json, "json", false, "Write JSON")
	flags.BoolVar(&f.platform, "platform", false, "Check what Windows itself offers (SSPI), without a configuration")
	flags.DurationVar(&f.patience, "patience", 3*time.Second, "How long to wait for a KDC or upstream that does not answer")
	return cmd
}

// run returns an error of the command line, or errReported if a step failed.
func (f *checkFlags) run(cmd *cobra.Command) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	if err := f.parseURL(); err != nil {
		return err
	}
	if f.passwordFile != "" && f.user == "" {
		return errors.New("--password-file needs --user, whose password it holds")
	}
	if f.platform {
		for _, other := range []string{"config", "adapter", "envfile", "identity", "user"} {
			if cmd.Flags().Changed(other) {
				return fmt.Errorf("--platform checks Windows without a configuration: leave out --%s, or --platform", other)
			}
		}
		return f.checkPlatform(ctx, &report{console: consoleOf(cmd), json: f.json, subject: "Windows"})
	}
	if err := f.loadEnv(); err != nil {
		return err
	}
	r := &report{console: consoleOf(cmd), json: f.json, subject: cmp.Or(f.config, "Caddyfile")}
	switch doc, err := f.document(); {
	case errors.Is(err, errNoConfig):
		return err
	case err != nil:
		r.fail(stepConfig, err.Error(), "", diagnosis.CauseConfiguration)
	default:
		modules, release, err := newModuleContext(doc)
		if err != nil {
			return err
		}
		defer release()
		c := &check{report: r, checkOptions: f.checkOptions, modules: modules}
		if err := c.run(ctx, doc); err != nil {
			return err
		}
	}
	return r.end()
}

// parseURL reads --url, which is a whole URL or a path at the upstream.
func (f *checkFlags) parseURL() error {
	if f.url == "" {
		return nil
	}
	u, err := url.Parse(f.url)
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	path := u.Host == "" && len(u.Path) > 0 && u.Path[0] == '/'
	if !path && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		return fmt.Errorf("--url %s is neither an http or https URL nor a path", f.url)
	}
	f.target = u
	return nil
}

// newModuleContext returns a context that provisions modules of the configuration without running
// it: nothing listens. What the modules log is not shown, because the steps report it.
func newModuleContext(doc *document) (caddy.Context, func(), error) {
	cfg := &caddy.Config{Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		caddy.DefaultLoggerName: {BaseLog: caddy.BaseLog{Level: zapcore.FatalLevel.String()}},
	}}}
	base, err := caddy.ProvisionContext(cfg)
	if err != nil {
		return caddy.Context{}, nil, err
	}
	cfg.AppsRaw = caddy.ModuleMap{"kerberos": doc.apps["kerberos"], "pki": doc.apps["pki"]}
	ctx, cancel := caddy.NewContext(base)
	return ctx, cancel, nil
}

// run checks the configuration, then each account and the places that use it.
func (c *check) run(ctx context.Context, doc *document) error {
	accounts, err := doc.accounts()
	if err != nil {
		c.fail(stepConfig, err.Error(), "", diagnosis.CauseConfiguration)
		return nil
	}
	c.checkConfiguration(accounts, doc.uses)
	found := false
	for _, a := range accounts {
		if !c.selected(a) {
			continue
		}
		found = true
		c.subject = a.title()
		c.checkAccount(ctx, a)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if !found && c.identity != "" {
		return fmt.Errorf("the configuration has no identity %q", c.identity)
	}
	if !found && c.count(statusFail) == 0 {
		c.fail(stepConfig, "the configuration uses neither negotiate, transport negotiate nor negotiate_auth, and defines no identity",
			"put a negotiate block before reverse_proxy, or transport negotiate into it, or negotiate_auth into the site", diagnosis.CauseConfiguration)
	}
	return nil
}

// checkAccount checks everything up to the login, then each place that uses the account.
func (c *check) checkAccount(ctx context.Context, a *checkedAccount) {
	if !c.checkFiles(a) {
		return
	}
	if kind, _ := a.identity().Origin(); kind != negotiate.KindPlatform { // Windows finds the KDCs and logs in
		if !c.checkUpToLogin(ctx, a) {
			return
		}
	}
	uses := a.uses
	if len(uses) == 0 && c.spn != "" {
		uses = []*use{{where: "--spn", loaded: true}}
	}
	for _, u := range uses {
		c.checkUse(ctx, a, u)
	}
}

// checkUpToLogin finds the KDCs and logs in: for a group managed service account first as the account
// that reads its password.
func (c *check) checkUpToLogin(ctx context.Context, a *checkedAccount) bool {
	if a.reader != nil {
		if !c.checkUpToLogin(ctx, a.reader) || !c.checkManagedPassword(ctx, a) {
			return false
		}
		if a.resolved.Principal.Realm == a.reader.resolved.Principal.Realm {
			return c.checkLogin(ctx, a)
		}
	}
	servers := c.checkDiscovery(ctx, a)
	return len(servers) > 0 && c.checkReach(ctx, a, servers) && c.checkLogin(ctx, a)
}

// checkUse checks the ticket, then the request.
func (c *check) checkUse(ctx context.Context, a *checkedAccount, u *use) {
	if !u.loaded {
		return
	}
	if u.accepts {
		c.checkSignIn(ctx, a, u)
		return
	}
	spn, ok := c.serviceOf(u)
	if !ok {
		return
	}
	grant, ok := c.checkTicket(ctx, a, u, spn)
	if ok && c.user != "" {
		grant, ok = c.checkImpersonation(ctx, a, u, spn)
	}
	if ok {
		c.checkUpstream(ctx, u, grant)
	}
}
