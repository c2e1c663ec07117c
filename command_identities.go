package caddynegotiate

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// adminFlags say which running Caddy is meant, and what of it.
type adminFlags struct {
	configFlags
	address             string
	identity, spn, user string
	json                bool
}

func (f *adminFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.address, "address", "", "Address of Caddy's admin endpoint (default: the configuration's, else "+caddy.DefaultAdminListen+")")
	f.configFlags.add(cmd)
	cmd.Flags().StringVar(&f.identity, "identity", "", "Only this identity, by a name or its principal")
	cmd.Flags().StringVar(&f.spn, "spn", "", "Only this service")
	cmd.Flags().StringVar(&f.user, "user", "", "Only this end user")
	cmd.Flags().BoolVar(&f.json, "json", false, "Write JSON")
}

// ask asks the running Caddy and reads its answer.
func (f *adminFlags) ask(cmd *cobra.Command, method, path string, answer any) error {
	address := f.address
	if address == "" && f.config != "" {
		var admin struct {
			Admin struct {
				Listen   string `json:"listen"`
				Disabled bool   `json:"disabled"`
			} `json:"admin"`
		}
		_, config, _, err := f.load(cmd.InOrStdin())
		if err != nil {
			return err
		}
		if err := json.Unmarshal(config, &admin); err != nil {
			return fmt.Errorf("reading the configuration: %w", err)
		}
		if admin.Admin.Disabled {
			return errors.New("the configuration turns the admin endpoint off (admin off), so that nobody can ask the running Caddy")
		}
		address = admin.Admin.Listen
	}
	if address == "" {
		address = caddy.DefaultAdminListen
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
		return fmt.Errorf("asking the Caddy at %s: %w; is it running, is this its admin address (--address), and has it this plugin?", address, err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("the answer of %s is none of this plugin's: %w", address, err)
	}
	return nil
}

func newIdentitiesCommand() *cobra.Command {
	f := new(adminFlags)
	cmd := &cobra.Command{
		Use:   "identities [--address ADMIN | --config FILE] [--identity NAME] [--json]",
		Short: "Shows the identities of a running Caddy: keys, tickets, KDCs, clocks",
		Args:  cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			var all []identityView
			if err := f.ask(cmd, http.MethodGet, "/kerberos/identities", &all); err != nil {
				return err
			}
			c := consoleOf(cmd)
			if f.json {
				return c.writeJSON(all)
			}
			return c.writeIdentities(all, time.Now())
		}),
	}
	f.add(cmd)
	return cmd
}

// writeIdentities writes a table of the identities, and under it what is out of order.
func (c *console) writeIdentities(all []identityView, now time.Time) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(c.out, "no identities: the running configuration has no negotiate, or none was loaded yet")
		return err
	}
	t := &table{heads: []string{"IDENTITY", "PRINCIPAL", "CREDENTIAL", "TGT ENDS", "TICKETS", "KDCS", "STATE"}}
	for _, v := range all {
		ends := "-"
		if v.TGT != nil {
			ends = away(v.TGT.EndTime, now)
		}
		t.row(strings.Join(v.Names, ","), v.Principal, v.credential(), ends, humanize.Comma(int64(v.Tickets)), v.kdcs(), v.state())
	}
	if err := c.writeTable(t); err != nil {
		return err
	}
	for _, v := range all {
		for _, line := range v.troubles(now) {
			if _, err := fmt.Fprintf(c.out, "\n%s: %s\n", v.Name, line); err != nil {
				return err
			}
		}
	}
	return nil
}

// credential is the kind and the newest key version.
func (v identityView) credential() string {
	newest := uint32(0)
	for _, key := range v.Keys {
		newest = max(newest, key.KVNO)
	}
	if newest == 0 {
		return v.Kind
	}
	return v.Kind + " v" + strconv.FormatUint(uint64(newest), 10)
}

// kdcs is how many of them are alive.
func (v identityView) kdcs() string {
	alive := 0
	for _, k := range v.KDCs {
		if k.State != "dead" {
			alive++
		}
	}
	return fmt.Sprintf("%d/%d", alive, len(v.KDCs))
}

func (v identityView) state() string {
	switch {
	case v.Breaker.Open:
		return "refused"
	case v.TGT == nil:
		return "no login"
	default:
		return "ok"
	}
}

// troubles says in full what the table has no room for.
func (v identityView) troubles(now time.Time) []string {
	var lines []string
	if v.Breaker.Open {
		lines = append(lines, fmt.Sprintf("the KDC refused the credentials, the next try is %s\n  %s\n  -> %s", away(*v.Breaker.Until, now), v.Breaker.Reason, v.Breaker.Remedy))
	}
	for _, k := range v.KDCs {
		if k.State == "dead" {
			lines = append(lines, fmt.Sprintf("KDC %s does not serve: %s", k.KDC, k.LastError))
		}
	}
	for realm, seconds := range v.ClockOffsets {
		if offset := time.Duration(seconds * float64(time.Second)); offset.Abs() > clockTolerance {
			lines = append(lines, fmt.Sprintf("the clock of %s is %s\n  -> %s", realm, offsetText(offset), remedyClock))
		}
	}
	return lines
}
