package command

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-negotiate/caddy-negotiate/internal/version"
)

// documentation is the page of these commands.
const documentation = "https://github.com/caddy-negotiate/caddy-negotiate/blob/main/docs/commands.md"

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "kerberos",
		Usage: "<check|ready|identities|tickets|flush|keytab|token|version>",
		Short: "Tests Kerberos configurations and manages the tickets of a running Caddy",
		Long: "Tests Kerberos configurations, shows and flushes the tickets of a running Caddy, and edits keytabs.\n" +
			"Begin with: caddy kerberos check --config Caddyfile",
		CobraFunc: func(cmd *cobra.Command) {
			// In place of Caddy's, which names a page without these commands. Subcommands inherit it.
			cmd.SetHelpTemplate(cmd.HelpTemplate() + "\nFull documentation is available at:\n" + documentation + "\n")
			addGroup(cmd, newCheckCommand(), newReadyCommand(), newIdentitiesCommand(), newTicketsCommand(), newFlushCommand(),
				newKeytabCommand(), newTokenCommand(), newVersionCommand())
		},
	})
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Shows the version and the commit of this plugin, and what it was built with",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, full := caddy.Version()
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "caddy-negotiate %s\ncaddy %s\n%s %s/%s\n",
				version.Current(), full, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
