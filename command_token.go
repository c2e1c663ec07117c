package caddynegotiate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func newTokenCommand() *cobra.Command {
	f := new(configFlags)
	var identity, service string
	cmd := &cobra.Command{
		Use:   "token --config FILE [--adapter NAME] [--envfile FILE] [--identity NAME] --spn SPN",
		Short: "Writes one token for a service, in base64, as it stands behind Authorization: Negotiate",
		Long: "Logs in as an identity of the configuration and writes one token for a service, in base64, to standard output.\n" +
			"Whoever has it can be the identity towards that service, once and for a few minutes: treat it as a password.",
		Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			spn, err := negotiate.ParseSPN(service)
			if err != nil {
				return err
			}
			_, config, _, err := f.load(cmd.InOrStdin())
			if err != nil {
				return err
			}
			w, app, err := pickAccount(config, identity)
			if err != nil {
				return err
			}
			if err := w.read(app, zap.NewNop()); err != nil {
				return err
			}
			if err := w.prepare(); err != nil {
				return err
			}
			grant, err := w.identity.Grant(contextOf(cmd), w.settings, &negotiate.Target{SPN: spn}, negotiate.DelegateNever)
			if err != nil {
				return fmt.Errorf("%w; %s", err, diagnose(err).Remedy)
			}
			token, err := grant.Mint(contextOf(cmd), negotiate.Features{Mutual: true})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.TrimPrefix(token.Header, "Negotiate "))
			return err
		}),
	}
	f.add(cmd)
	cmd.Flags().StringVar(&identity, "identity", "", "Identity to be, by its name or its principal (needed if there are several)")
	cmd.Flags().StringVar(&service, "spn", "", "Service principal, HTTP/host.corp.example")
	if err := cmd.MarkFlagRequired("spn"); err != nil {
		panic(err) // the flag's name is misspelt above
	}
	return cmd
}

// pickAccount finds the account that is meant: by name, or the only one.
func pickAccount(config []byte, name string) (*who, *App, error) {
	doc, err := readDocument(config)
	if err != nil {
		return nil, nil, err
	}
	sites, err := doc.logins()
	if err != nil {
		return nil, nil, err
	}
	var found []*who
	for _, w := range doc.accounts(sites) {
		if name == "" || w.is(name, doc.app) {
			found = append(found, w)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], doc.app, nil
	case len(found) == 0 && name != "":
		return nil, nil, fmt.Errorf("no identity of the configuration is called %q", name)
	case len(found) == 0:
		return nil, nil, errors.New("the configuration has no identity")
	}
	// The same account in several places is one.
	for _, w := range found[1:] {
		if w.title() != found[0].title() {
			return nil, nil, fmt.Errorf("the configuration has several identities (%s, %s, ...); choose one with --identity", found[0].title(), w.title())
		}
	}
	return found[0], doc.app, nil
}
