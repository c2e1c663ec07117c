package command

import (
	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "kerberos",
		Usage: "<check|identities|tickets|flush|keytab|token>",
		Short: "Tests Kerberos configurations and manages the tickets of a running Caddy",
		Long: "Tests Kerberos configurations, shows and flushes the tickets of a running Caddy, and edits keytabs.\n" +
			"Begin with: caddy kerberos check --config Caddyfile",
		CobraFunc: func(cmd *cobra.Command) {
			addGroup(cmd, newCheckCommand(), newIdentitiesCommand(), newTicketsCommand(), newFlushCommand(), newKeytabCommand(), newTokenCommand())
		},
	})
}
