package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
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
		if err := f.request(method, "/kerberos/"+name, &value); err != nil {
			return err
		}
		c := consoleOf(cmd)
		if f.json {
			return c.writeJSON(value)
		}
		return write(c, value)
	}}
	flags := cmd.Flags()
	flags.StringVar(&f.address, "address", "", "Address of Caddy's admin endpoint (default: the configuration's, else "+caddy.DefaultAdminListen+")")
	f.configFlags.add(cmd)
	flags.StringVar(&f.identity, "identity", "", "Only this identity, by a name or its principal")
	flags.BoolVar(&f.json, "json", false, "Write JSON")
	cmd.Use = name + " [--address ADMIN | --config FILE] [--identity NAME]"
	if selectsTickets {
		cmd.Use += " [--spn SPN] [--user USER]"
		flags.StringVar(&f.spn, "spn", "", "Only this service")
		flags.StringVar(&f.user, "user", "", "Only this end user")
	}
	cmd.Use += " [--json]"
	return cmd
}

// request sends a request to the running Caddy and decodes its answer.
func (f *adminFlags) request(method, path string, answer any) error {
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
	response, err := caddycmd.AdminAPIRequest(address, method, path, nil, nil)
	if err != nil {
		if !listening(address) {
			return fmt.Errorf("asking the Caddy at %s: %w; is it running, and is this its admin address (--address)?", address, err)
		}
		return fmt.Errorf("asking the Caddy at %s: %w", address, err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("the Caddy at %s does not answer like this plugin: %w; does it include the plugin?", address, err)
	}
	return nil
}

// listening reports whether a server accepts connections at the address. Caddy's AdminAPIRequest
// does not tell a connection that failed from an answer with an error.
func listening(address string) bool {
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil {
		return false
	}
	conn, err := net.DialTimeout(parsed.Network, parsed.JoinHostPort(0), time.Second)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
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
