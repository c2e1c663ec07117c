package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func newTokenCommand() *cobra.Command {
	f := new(configFlags)
	var identity, service string
	cmd := &cobra.Command{
		Use:   "token --config FILE [--adapter NAME] [--envfile FILE] [--identity NAME] --spn SPN",
		Short: "Writes one token for a service, in base64, as used in the Authorization: Negotiate header",
		Long: "Logs in as an identity of the configuration and writes one token for a service, in base64, to standard output.\n" +
			"Anyone who has it can authenticate to that service as the identity, once and for a few minutes: treat it as a password.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			token, err := f.token(cmd, identity, service)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&identity, "identity", "", "Identity to log in as, by its name or its principal (required if there are several)")
	cmd.Flags().StringVar(&service, "spn", "", "Service principal, HTTP/host.corp.example")
	_ = cmd.MarkFlagRequired("spn")
	return cmd
}

// token returns one token for the service, in base64.
func (f *configFlags) token(cmd *cobra.Command, identity, service string) (string, error) {
	spn, err := negotiate.ParseSPN(service)
	if err != nil {
		return "", err
	}
	if err := f.loadEnv(); err != nil {
		return "", err
	}
	doc, err := f.document()
	if err != nil {
		return "", err
	}
	a, err := doc.account(identity)
	if err != nil {
		return "", err
	}
	grant, err := a.initiator.Grant(cmd.Context(), &negotiate.Target{SPN: spn}, negotiate.DelegateNever)
	if err != nil {
		return "", fmt.Errorf("%w; %s", err, diagnosis.Of(err).Remedy)
	}
	token, err := grant.Mint(cmd.Context(), negotiate.Features{Mutual: true})
	if err != nil {
		return "", err
	}
	defer token.Close()
	return strings.TrimPrefix(token.Header, "Negotiate "), nil
}

// account returns the account of the given name, or the only one if the name is empty.
func (d *document) account(name string) (*checkedAccount, error) {
	all, err := d.accounts()
	if err != nil {
		return nil, err
	}
	var found *checkedAccount
	for _, a := range all {
		switch {
		case name != "" && !a.is(name):
		case found == nil:
			found = a
		case found.title() != a.title(): // else the same account, in several blocks
			return nil, fmt.Errorf("the configuration has several identities (%s, %s, ...): choose one with --identity", found.title(), a.title())
		}
	}
	switch {
	case found == nil && name != "":
		return nil, fmt.Errorf("the configuration has no identity %q", name)
	case found == nil:
		return nil, errors.New("the configuration has no identity")
	}
	return found, found.err
}
