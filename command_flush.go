package caddynegotiate

import (
	"fmt"
	"net/http"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"
)

func newFlushCommand() *cobra.Command {
	f := new(adminFlags)
	cmd := &cobra.Command{
		Use:   "flush [--address ADMIN | --config FILE] [--identity NAME] [--spn SPN] [--user USER] [--json]",
		Short: "Has a running Caddy forget tickets and try refused credentials again",
		Args:  cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			var view flushView
			if err := f.ask(cmd, http.MethodPost, "/kerberos/flush", &view); err != nil {
				return err
			}
			c := consoleOf(cmd)
			if f.json {
				return c.writeJSON(view)
			}
			_, err := fmt.Fprintf(c.out, "%s: forgot %s, closed %s\n", english.Plural(view.Identities, "identity", "identities"),
				english.Plural(view.Tickets, "ticket", ""), english.Plural(view.Breakers, "breaker", ""))
			return err
		}),
	}
	f.add(cmd)
	return cmd
}
