package command

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/caddy-negotiate/caddy-negotiate/internal/adminapi"
	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func newIdentitiesCommand() *cobra.Command {
	return newAdminCommand(http.MethodGet, "identities", "Shows the identities of a running Caddy: keys, tickets, KDCs, clocks", false, writeIdentities)
}

func newTicketsCommand() *cobra.Command {
	return newAdminCommand(http.MethodGet, "tickets", "Shows the tickets that a running Caddy holds", true, writeTickets)
}

func newFlushCommand() *cobra.Command {
	return newAdminCommand(http.MethodPost, "flush", "Clears tickets of a running Caddy and ends the pause after refused credentials", true, writeFlush)
}

// writeIdentities writes a table of the identities and, below it, notes about them.
func writeIdentities(c *console, view adminapi.IdentitiesView) error {
	all := view.Identities
	if len(all) == 0 {
		_, err := fmt.Fprintln(c.out, "no identities: the running configuration does not use this plugin, or none is loaded yet")
		return err
	}
	var rows [][]string
	for _, v := range all {
		ends := "-"
		if v.TGT != nil {
			ends = relativeTime(v.TGT.EndTime)
		}
		rows = append(rows, []string{
			strings.Join(v.Names, ","), v.Principal, credentialText(v), ends, humanize.Comma(int64(v.Tickets)), kdcsText(v), stateText(v),
		})
	}
	if err := c.writeTable([]string{"IDENTITY", "PRINCIPAL", "CREDENTIAL", "TGT ENDS", "TICKETS", "KDCS", "STATE"}, rows); err != nil {
		return err
	}
	for _, v := range all {
		for _, line := range notesOf(v) {
			if _, err := fmt.Fprintf(c.out, "\n%s: %s\n", v.Name, line); err != nil {
				return err
			}
		}
	}
	return nil
}

// credentialText is the kind of credentials and the newest key version.
func credentialText(v adminapi.IdentityView) string {
	newest := uint32(0)
	for _, key := range v.Keys {
		newest = max(newest, key.KVNO)
	}
	if newest == 0 {
		return string(v.Kind)
	}
	return fmt.Sprintf("%s v%d", v.Kind, newest)
}

// kdcsText is how many of the KDCs are alive.
func kdcsText(v adminapi.IdentityView) string {
	alive := 0
	for _, k := range v.KDCs {
		if k.State != "dead" {
			alive++
		}
	}
	return fmt.Sprintf("%d/%d", alive, len(v.KDCs))
}

func stateText(v adminapi.IdentityView) string {
	switch {
	case v.Breaker.Open:
		return "refused"
	case !v.Ready:
		return "not ready"
	case windowsFailure(v) != nil:
		return "failed"
	case v.Kind == negotiate.KindPlatform:
		return "Windows"
	case v.TGT == nil:
		return "no login"
	default:
		return "ok"
	}
}

// windowsFailure returns why Windows has no ticket, nil if it has one or was not asked. There is no login
// that would show it: an identity with platform is ready as long as nothing is requested.
func windowsFailure(v adminapi.IdentityView) *adminapi.FailureView {
	if v.Kind != negotiate.KindPlatform || v.Tickets > 0 || len(v.Failures) == 0 {
		return nil
	}
	return &v.Failures[0]
}

// notesOf describes in full what the table only names, and what has no column.
func notesOf(v adminapi.IdentityView) []string {
	var lines []string
	if v.SecretDue != nil {
		lines = append(lines, fmt.Sprintf("the secret was changed %s, and is to be changed %s", relativeTime(*v.SecretChanged), relativeTime(*v.SecretDue)))
	}
	if v.Breaker.Open {
		lines = append(lines, fmt.Sprintf("the KDC refused the credentials, the next attempt is %s\n  %s\n  -> %s",
			relativeTime(*v.Breaker.Until), v.Breaker.Reason, v.Breaker.Remedy))
	} else if v.Problem != nil {
		lines = append(lines, fmt.Sprintf("not ready: %s\n  -> %s", v.Problem.Reason, v.Problem.Remedy))
	}
	if f := windowsFailure(v); f != nil {
		lines = append(lines, fmt.Sprintf("Windows had no ticket for %s, %s\n  %s\n  -> %s", f.SPN, relativeTime(f.Time), f.Reason, f.Remedy))
	}
	for _, k := range v.KDCs {
		if k.State == "dead" {
			lines = append(lines, fmt.Sprintf("KDC %s does not answer: %s", k.KDC, k.LastError))
		}
	}
	for _, realm := range slices.Sorted(maps.Keys(v.ClockOffsets)) {
		if offset := time.Duration(v.ClockOffsets[realm] * float64(time.Second)); offset.Abs() > clockTolerance {
			lines = append(lines, fmt.Sprintf("the clock of %s is %s\n  -> %s", realm, offsetText(offset), diagnosis.RemedyClock))
		}
	}
	return lines
}

// writeTickets writes a table of tickets. The identity has no column if it is the same in all rows. On a
// terminal that is too narrow, the key and the user's realm, if it is the service's, are left out, so that
// the services' names are whole at 80 columns.
func writeTickets(c *console, all []adminapi.TicketView) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(c.out, "no tickets")
		return err
	}
	total, several := int64(0), false
	for _, v := range all {
		total += v.Bytes
		several = several || v.Identity != all[0].Identity
	}
	table := ticketTable(all, several, false)
	if c.width > 0 && tableWidth(table) > c.width {
		table = ticketTable(all, several, true)
	}
	if err := c.writeTable(table[0], table[1:]); err != nil {
		return err
	}
	summary := fmt.Sprintf("%s, %s", english.Plural(len(all), "ticket", ""), humanize.IBytes(uint64(max(0, total))))
	if !several {
		summary = all[0].Identity + ": " + summary
	}
	_, err := fmt.Fprintln(c.out, summary)
	return err
}

// ticketTable returns the rows of a table, its heads first.
func ticketTable(all []adminapi.TicketView, identity, narrow bool) [][]string {
	table := make([][]string, 0, 1+len(all))
	table = append(table, []string{"SERVICE", "USER", "KEY", "ENDS", "USES", "IDENTITY"})
	for _, v := range all {
		service, realm, _ := strings.Cut(v.Service, "@")
		if v.Suspect {
			service = "!" + service
		}
		user := cmp.Or(v.User, "-")
		if narrow {
			user = strings.TrimSuffix(user, "@"+realm)
		}
		table = append(table, []string{service, user, shortEType.Replace(v.SessionEType), relativeTime(v.EndTime), humanize.Comma(int64(v.Uses)), v.Identity})
	}
	for i, row := range table {
		if !identity {
			row = row[:len(row)-1]
		}
		if narrow {
			row = slices.Delete(row, 2, 3)
		}
		table[i] = row
	}
	return table
}

// shortEType turns aes256-cts-hmac-sha1-96 into aes256-sha1-96.
var shortEType = strings.NewReplacer("-cts-hmac", "", "-cts-cmac", "")

func writeFlush(c *console, view adminapi.FlushView) error {
	_, err := fmt.Fprintf(c.out, "%s: cleared %s, reset %s\n", english.Plural(view.Identities, "identity", "identities"),
		english.Plural(view.Tickets, "ticket", ""), english.Plural(view.Breakers, "circuit breaker", ""))
	return err
}
