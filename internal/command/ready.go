package command

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/caddy-negotiate/caddy-negotiate/internal/adminapi"
)

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
