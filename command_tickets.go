package caddynegotiate

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"
)

func newTicketsCommand() *cobra.Command {
	f := new(adminFlags)
	cmd := &cobra.Command{
		Use:   "tickets [--address ADMIN | --config FILE] [--identity NAME] [--spn SPN] [--user USER] [--json]",
		Short: "Shows the tickets that a running Caddy holds",
		Args:  cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			var all []ticketView
			if err := f.ask(cmd, http.MethodGet, "/kerberos/tickets", &all); err != nil {
				return err
			}
			c := consoleOf(cmd)
			if f.json {
				return c.writeJSON(all)
			}
			return c.writeTickets(all, time.Now())
		}),
	}
	f.add(cmd)
	return cmd
}

func (c *console) writeTickets(all []ticketView, now time.Time) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(c.out, "no tickets")
		return err
	}
	t := &table{heads: []string{"IDENTITY", "SERVICE", "USER", "KEY", "ENDS", "USES", "SIZE"}}
	total := int64(0)
	for _, v := range all {
		service, _, _ := strings.Cut(v.Service, "@")
		if v.Suspect {
			service = "!" + service
		}
		user := v.User
		if user == "" {
			user = "-"
		}
		t.row(v.Identity, service, user, shortEType.Replace(v.SessionEType), away(v.EndTime, now), humanize.Comma(int64(v.Uses)), size(v.Bytes))
		total += v.Bytes
	}
	if err := c.writeTable(t); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.out, "%s, %s\n", english.Plural(len(all), "ticket", ""), size(total))
	return err
}

// shortEType makes aes256-sha1-96 of aes256-cts-hmac-sha1-96.
var shortEType = strings.NewReplacer("-cts-hmac", "", "-cts-cmac", "")
