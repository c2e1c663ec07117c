package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-negotiate/caddy-negotiate/internal/adminapi"
)

// adminFlags name a running Caddy and select what to show of it.
type adminFlags struct {
	configFlags
	address             string
	identity, spn, user string
	json                bool
}

// newAdminCommand returns a command that gets a value from the admin endpoint of its name, and
// writes it as JSON or by the given function.
func newAdminCommand[T any](method, name, short string, selectsTickets bool, write func(*console, T) error) *cobra.Command {
	f := new(adminFlags)
	cmd := &cobra.Command{Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		var value T
		if err := f.request(cmd.Context(), method, "/kerberos/"+name, &value); err != nil {
			return err
		}
		c := consoleOf(cmd)
		if f.json {
			return c.writeJSON(value)
		}
		return write(c, value)
	}}
	flags := cmd.Flags()
	f.add(cmd)
	flags.BoolVar(&f.json, "json", false, "Write JSON")
	cmd.Use = name + adminUsage
	if selectsTickets {
		cmd.Use += " [--spn SPN] [--user USER]"
		flags.StringVar(&f.spn, "spn", "", "Only this service")
		flags.StringVar(&f.user, "user", "", "Only this end user")
	}
	cmd.Use += " [--json]"
	return cmd
}

const adminUsage = " [--address ADMIN | --config FILE] [--identity NAME]"

// add adds the flags that adminUsage names.
func (f *adminFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.address, "address", "", "Address of Caddy's admin endpoint (default: the configuration's, else "+caddy.DefaultAdminListen+")")
	f.configFlags.add(cmd)
	cmd.Flags().StringVar(&f.identity, "identity", "", "Only this identity, by a name or its principal")
}

// request sends a request to the running Caddy and decodes its answer. The statuses are those that
// are answers beside 200; others are errors.
func (f *adminFlags) request(ctx context.Context, method, path string, answer any, statuses ...int) error {
	address, err := f.endpoint()
	if err != nil {
		return err
	}
	query := url.Values{}
	for name, value := range map[string]string{"identity": f.identity, "spn": f.spn, "user": f.user} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	response, err := askAdmin(ctx, address, method, path)
	if err != nil {
		return fmt.Errorf("asking the Caddy at %s: %w; is it running, and is this its admin address (--address)?", address, err)
	}
	defer response.Body.Close()
	body := json.NewDecoder(io.LimitReader(response.Body, maxAnswer))
	if response.StatusCode != http.StatusOK && !slices.Contains(statuses, response.StatusCode) {
		var refused caddy.APIError
		if err := body.Decode(&refused); err != nil || refused.Message == "" {
			return fmt.Errorf("the Caddy at %s answers %s; does it include this plugin?", address, response.Status)
		}
		return fmt.Errorf("the Caddy at %s answers %s: %s", address, response.Status, refused.Message)
	}
	if err := body.Decode(answer); err != nil {
		return fmt.Errorf("the Caddy at %s does not answer like this plugin: %w; does it include the plugin?", address, err)
	}
	return nil
}

// The bounds of a request to the admin endpoint: its duration, and the size of the answer, which has
// some 600 bytes a ticket.
const (
	adminTimeout = 30 * time.Second
	maxAnswer    = 256 << 20
)

// askAdmin sends a request to an admin endpoint. Caddy's AdminAPIRequest makes texts of answers
// that are not 200, and does not tell them from connections that fail.
func askAdmin(ctx context.Context, address, method, path string) (*http.Response, error) {
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil || parsed.PortRangeSize() > 1 {
		return nil, fmt.Errorf("not an address: %s", address)
	}
	host := parsed.JoinHostPort(0)
	dial := host
	if parsed.IsUnixNetwork() || parsed.IsFdNetwork() {
		host = "127.0.0.1"
		dial, _, _ = strings.Cut(dial, "|") // the socket's permissions
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, nil)
	if err != nil {
		return nil, err
	}
	if host == dial {
		request.Header.Set("Origin", "http://"+host) // for enforce_origin
	}
	client := http.Client{Timeout: adminTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, parsed.Network, dial)
		},
	}}
	return client.Do(request)
}

// endpoint returns the address of the admin endpoint.
func (f *adminFlags) endpoint() (string, error) {
	if f.address != "" || f.config == "" {
		return caddycmd.DetermineAdminAPIAddress(f.address, nil, "", "")
	}
	if err := f.loadEnv(); err != nil {
		return "", err
	}
	config, err := f.load()
	if err != nil {
		return "", err
	}
	var c struct {
		Admin caddy.AdminConfig `json:"admin"`
	}
	if err := json.Unmarshal(config, &c); err == nil && c.Admin.Disabled {
		return "", errors.New("the configuration disables the admin endpoint (admin off), which this command needs")
	}
	return caddycmd.DetermineAdminAPIAddress("", config, f.config, f.adapter)
}

func newReadyCommand() *cobra.Command {
	f := new(adminFlags)
	cmd := &cobra.Command{
		Use:   "ready" + adminUsage,
		Short: "Exits with 0 if a running Caddy has logged in, else with 1 and the reasons: for exec probes",
		Long: "Exits with 0 if every identity of a running Caddy has a ticket-granting ticket or has never asked for one, else with 1\n" +
			"and the reasons. An identity without a ticket logs in again, so that an instance without requests becomes ready.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := f.ready(cmd)
			cmd.SilenceErrors = errors.Is(err, errReported)
			return err
		},
	}
	f.add(cmd)
	return cmd
}

func (f *adminFlags) ready(cmd *cobra.Command) error {
	var view adminapi.ReadyView
	if err := f.request(cmd.Context(), http.MethodGet, "/kerberos/ready", &view, http.StatusServiceUnavailable); err != nil {
		return err
	}
	if view.Ready {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "ready")
		return err
	}
	out := cmd.ErrOrStderr()
	for _, r := range view.Reasons {
		fmt.Fprintf(out, "%s is not ready: %s\n", r.Identity, r.Reason)
		if r.Remedy != "" {
			fmt.Fprintf(out, "  -> %s\n", r.Remedy)
		}
	}
	return errReported
}
