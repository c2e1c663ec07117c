package docs

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// faults is what the reference lacks, and what it has too much of.
func faults(b book, s *source) []string {
	var all []string
	for _, check := range []func(book, *source) []string{
		directiveFaults, metricFaults, placeholderFaults, errorFaults, codeFaults, commandFaults, causeFaults, adminFaults, logFaults, enctypeFaults,
	} {
		all = append(all, check(b, s)...)
	}
	return all
}

func TestReferenceHasWhatTheCodeHasAndNoOther(t *testing.T) {
	for _, fault := range faults(readBook(t), readSource(t)) {
		t.Error(fault)
	}
}

func TestEveryExportedTypeAndJSONFieldIsDocumented(t *testing.T) {
	for _, fault := range readSource(t).undocumented() {
		t.Error(fault)
	}
}

// differ compares sets.
func differ(what, where string, code, docs []string) (faults []string) {
	for _, name := range slices.Compact(slices.Sorted(slices.Values(code))) {
		if !slices.Contains(docs, name) {
			faults = append(faults, fmt.Sprintf("%s %s is in the code, and not in %s", what, name, where))
		}
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(docs))) {
		if !slices.Contains(code, name) {
			faults = append(faults, fmt.Sprintf("%s %s is in %s, and not in the code", what, name, where))
		}
	}
	return faults
}

const directives = "docs/directives.md"

// tables says which functions parse what stands under which heading, and which
// comments show the same.
var tables = map[string][]string{
	"## Who we are":                 {"Credentials.block"},
	"### kdc_options":               {"Credentials.readKDCOptions"},
	"## What we ask for":            {"Request.block"},
	"## transport negotiate alone":  {"Transport.ownBlock", "Impersonation.block"},
	"## The global option kerberos": {"App.block"},
	"### realm":                     {"App.readRealm"},
}

// shown says which tables' subdirectives a comment with the syntax has to name.
var shown = map[string][]string{
	"Handler.UnmarshalCaddyfile":   {"Credentials.block", "Request.block"},
	"Transport.UnmarshalCaddyfile": {"Transport.ownBlock", "Impersonation.block"},
	"parseKerberos":                {"App.block", "App.readRealm"},
}

func directiveFaults(b book, s *source) []string {
	var faults, checked []string
	for heading, functions := range tables {
		var code []string
		for _, f := range functions {
			code = append(code, s.subdirectives(f)...)
		}
		checked = append(checked, functions...)
		faults = append(faults, differ("subdirective", directives+" under "+heading, code, column(b.own(directives, heading), 0))...)
	}
	for comment, functions := range shown {
		words := s.syntax(comment)
		for _, f := range functions {
			for _, name := range s.subdirectives(f) {
				if !slices.Contains(words, name) {
					faults = append(faults, fmt.Sprintf("subdirective %s is not in the syntax that the comment of %s shows", name, comment))
				}
			}
		}
	}
	return append(faults, differ("parser", "the table of this test", s.parsers(), checked)...)
}

var metricName = regexp.MustCompile(`\bcaddy_(?:negotiate|kerberos)_[a-z_]+`)

func metricFaults(b book, s *source) []string {
	code := s.metrics()
	var documented, faults []string
	for _, cells := range rows(b["docs/metrics.md"]) {
		names := spans(cells[0])
		if len(names) != 1 || len(cells) != 4 || strings.Contains(names[0], " ") {
			continue // another table
		}
		documented = append(documented, names[0])
		m, known := code[names[0]]
		if known && cells[1] != m.kind {
			faults = append(faults, fmt.Sprintf("docs/metrics.md calls %s a %s, it is a %s", names[0], cells[1], m.kind))
		}
		if known && !slices.Equal(spans(cells[2]), m.labels) {
			faults = append(faults, fmt.Sprintf("docs/metrics.md gives %s the labels %v, it has %v", names[0], spans(cells[2]), m.labels))
		}
	}
	faults = append(faults, differ("metric", "docs/metrics.md", slices.Collect(maps.Keys(code)), documented)...)
	for page, text := range b {
		for _, name := range metricName.FindAllString(text, -1) {
			base := name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if short, cut := strings.CutSuffix(name, suffix); cut && code[short].kind == "histogram" {
					base = short
				}
			}
			if _, known := code[base]; !known {
				faults = append(faults, fmt.Sprintf("%s names the metric %s, which does not exist", page, name))
			}
		}
	}
	return faults
}

var placeholder = regexp.MustCompile(`\{(http\.negotiate\.[a-z_.]+)\}`)

func placeholderFaults(b book, s *source) []string {
	code := s.placeholders()
	var documented []string
	for _, name := range column(b.own(directives, "## Placeholders"), 0) {
		documented = append(documented, strings.Trim(name, "{}"))
	}
	faults := differ("placeholder", directives, code, documented)
	for page, text := range b {
		for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(code, m[1]) {
				faults = append(faults, fmt.Sprintf("%s names the placeholder %s, which does not exist", page, m[1]))
			}
		}
	}
	return faults
}

// httpStatus are the constants of net/http that status.go may use.
var httpStatus = map[string]int{
	"StatusBadRequest": http.StatusBadRequest, "StatusUnauthorized": http.StatusUnauthorized, "StatusForbidden": http.StatusForbidden,
	"StatusBadGateway": http.StatusBadGateway, "StatusServiceUnavailable": http.StatusServiceUnavailable, "StatusGatewayTimeout": http.StatusGatewayTimeout,
}

// errorFaults compares the table of situations, statuses and names of errors.
func errorFaults(b book, s *source) []string {
	names := s.constants("status.go", "err")
	var code, documented []string
	for _, pair := range s.statuses() {
		code = append(code, fmt.Sprintf("%d %s", httpStatus[pair[0]], names[pair[1]]))
	}
	code = append(code, "401 "+names["errTokenRefused"]) // the upstream's own answer, which status.go has no say in
	for _, cells := range rows(b.own(directives, "## What a request gets")) {
		for _, name := range spans(cells[2]) {
			documented = append(documented, regexp.MustCompile(`\d{3}`).FindString(cells[1])+" "+name)
		}
	}
	faults := differ("error", directives, code, documented)
	// Where people look for them, each is too.
	var found []string
	for _, cells := range rows(b.own(troubleshooting, "## By the status that clients see")) {
		found = append(found, spans(cells[0])...)
	}
	return append(faults, differ("error", troubleshooting, slices.Collect(maps.Values(names)), found)...)
}

const troubleshooting = "docs/troubleshooting.md"

var krbName = regexp.MustCompile(`\b(?:KDC|KRB|KRB_AP)_ERR_[A-Z0-9_]+\b`)

// codeFaults compares the table of Kerberos errors with those that status.go tells
// apart, and with the registry.
func codeFaults(b book, s *source) (faults []string) {
	number := make(map[string]int)
	for code := range messages.ErrorCode(128) {
		number[code.String()] = int(code)
	}
	documented := make(map[string]bool)
	for _, cells := range rows(b.own(troubleshooting, "## By the Kerberos error")) {
		for entry := range strings.SplitSeq(cells[0], ", ") {
			nr, name, _ := strings.Cut(entry, " ")
			documented[name] = true
			if known, ok := number[name]; !ok || strconv.Itoa(known) != nr {
				faults = append(faults, fmt.Sprintf("%s says that %s is %s", troubleshooting, name, nr))
			}
		}
	}
	for _, name := range s.codes() {
		if !documented[name] {
			faults = append(faults, fmt.Sprintf("status.go tells %s apart, and %s does not have it", name, troubleshooting))
		}
	}
	for page, text := range b {
		for _, name := range krbName.FindAllString(text, -1) {
			if _, known := number[name]; !known {
				faults = append(faults, fmt.Sprintf("%s names %s, which is no registered error", page, name))
			}
		}
	}
	return faults
}

const commands = "docs/commands.md"

// kerberosCommand is `caddy kerberos` with all below it.
func kerberosCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "kerberos"}
	caddycmd.Commands()["kerberos"].CobraFunc(cmd)
	return cmd
}

// leaves are the commands that do something, by their names after `kerberos`.
func leaves(cmd *cobra.Command, prefix string) map[string]*cobra.Command {
	found := make(map[string]*cobra.Command)
	for _, sub := range cmd.Commands() {
		path := strings.TrimSpace(prefix + " " + sub.Name())
		if sub.HasSubCommands() {
			maps.Copy(found, leaves(sub, path))
		} else {
			found[path] = sub
		}
	}
	return found
}

// usage is the beginning of a flag's line in what --help writes.
var usage = regexp.MustCompile(`(?m)^ +(?:(-\w), )?(--[a-z-]+)`)

func commandFaults(b book, _ *source) []string {
	code := leaves(kerberosCommand(), "")
	var listed []string
	intro, _, _ := strings.Cut(b[commands], "\n## ")
	for _, command := range spans(intro) {
		if name, ok := strings.CutPrefix(command, "caddy kerberos "); ok {
			listed = append(listed, name)
		}
	}
	faults := differ("command", commands, slices.Collect(maps.Keys(code)), listed)
	described := make(map[string]string) // by command
	for line := range strings.SplitSeq(b[commands], "\n") {
		if names, ok := strings.CutPrefix(line, "## caddy kerberos "); ok {
			for name := range strings.SplitSeq(names, ", ") {
				described[name] = b.section(commands, line)
			}
		}
	}
	for name, cmd := range code {
		section, ok := described[name]
		if !ok {
			faults = append(faults, fmt.Sprintf("%s does not describe caddy kerberos %s", commands, name))
			continue
		}
		var flags, documented []string
		for _, m := range usage.FindAllStringSubmatch(cmd.LocalFlags().FlagUsages(), -1) {
			if m[1] != "" {
				flags = append(flags, m[1])
			}
			flags = append(flags, m[2])
		}
		for _, word := range column(section, 0) {
			if strings.HasPrefix(word, "-") {
				documented = append(documented, word)
			}
		}
		faults = append(faults, differ("flag of caddy kerberos "+name, commands, flags, documented)...)
	}
	return faults
}

// causeFaults compares what `check --json` may say.
func causeFaults(b book, s *source) []string {
	section := b.section(commands, "## caddy kerberos check")
	var causes []string
	for _, name := range column(section, 0) {
		if !strings.HasPrefix(name, "-") {
			causes = append(causes, name)
		}
	}
	faults := differ("cause", commands, slices.Collect(maps.Values(s.constants("command_check.go", "cause"))), causes)
	_, text, _ := strings.Cut(section, "The steps are ")
	text, _, _ = strings.Cut(text, ".")
	return append(faults, differ("step", commands, slices.Collect(maps.Values(s.constants("command_check.go", "step"))), spans(text))...)
}

// adminFaults compares the routes, and the fields of their answers.
func adminFaults(b book, s *source) []string {
	const page = "docs/admin.md"
	intro, _, _ := strings.Cut(b[page], "\n## ")
	var routes []string
	for _, cells := range rows(intro) {
		routes = append(routes, spans(cells[0])...)
	}
	faults := differ("route", page, s.routes(), routes)
	for heading, types := range map[string][]string{
		"## An identity": {"identityView", "keyView", "ticketTime", "breakerView", "kdcView"},
		"## A ticket":    {"ticketView"},
		"## A flush":     {"flushView"},
	} {
		var code []string
		for _, of := range types {
			code = append(code, s.fields(of)...)
		}
		section := b.section(page, heading)
		for _, field := range code {
			if !slices.Contains(spans(section), field) {
				faults = append(faults, fmt.Sprintf("field %s of %s is not in %s", field, types[0], page))
			}
		}
		for _, field := range column(section, 0) {
			if !slices.Contains(code, field) {
				faults = append(faults, fmt.Sprintf("field %s is in %s under %s, and not in the code", field, page, heading))
			}
		}
	}
	return faults
}

// logFaults compares the fields of the log.
func logFaults(b book, s *source) []string {
	return differ("log field", troubleshooting, s.logFields(), column(b.own(troubleshooting, "## The log"), 0))
}

// enctypeFaults are encryption types in the reference that there are not, and those that
// it lacks.
func enctypeFaults(b book, _ *source) []string {
	var code, documented []string
	for id := range enctype.ID(64) {
		if id.Supported() {
			code = append(code, id.String())
		}
	}
	for _, cells := range rows(b.own(directives, "## Who we are")) {
		if cells[0] == "`encryption_types`" {
			documented = spans(cells[1])
		}
	}
	for i, name := range documented { // des3-cbc-sha1 is the usual name of des3-cbc-sha1-kd
		if id, err := enctype.Parse(name); err == nil {
			documented[i] = id.String()
		}
	}
	return differ("encryption type", directives, code, documented)
}

// What would rot first: each edit, in the code alone or in the documentation alone,
// has to be seen.
func TestRotIsSeen(t *testing.T) {
	b := readBook(t)
	for name, c := range map[string]struct {
		b    book
		edit [3]string // of the source
		want []string  // parts of the faults
	}{
		"a directive renamed in the code": {
			edit: [3]string{"caddyfile.go", `"use_tcp":`, `"tcp_only":`},
			want: []string{"use_tcp is in docs/directives.md under ## Who we are, and not in the code", "tcp_only is in the code, and not in docs", "syntax that the comment of Handler.UnmarshalCaddyfile"},
		},
		"a directive of the transport, new in the code": {
			edit: [3]string{"transport.go", `"per_connection": readSwitch`, `"sticky": nil, "per_connection": readSwitch`},
			want: []string{"sticky is in the code", "sticky is not in the syntax"},
		},
		"an option of a realm renamed in the documentation": {
			b:    b.with(t, directives, "`netbios ", "`short_name "),
			want: []string{"netbios is in the code, and not", "short_name is in docs/directives.md"},
		},
		"a new block of subdirectives": {
			edit: [3]string{"transport.go", "func (t *Transport) Cleanup() error {", "func more() block { return block{\"x\": nil} }\nfunc (t *Transport) Cleanup() error {"},
			want: []string{"parser more is in the code"},
		},
		"a metric renamed in the documentation": {
			b:    b.with(t, "docs/metrics.md", "caddy_kerberos_tickets`", "caddy_kerberos_ticket_count`"),
			want: []string{"metric caddy_kerberos_tickets is in the code, and not", "caddy_kerberos_ticket_count is in docs/metrics.md, and not"},
		},
		"a metric that only a page elsewhere knows": {
			b:    b.with(t, "docs/architecture.md", "# Architecture", "# Architecture\n\n`caddy_negotiate_dreams_total`"),
			want: []string{"docs/architecture.md names the metric caddy_negotiate_dreams_total"},
		},
		"a label renamed in the code": {
			edit: [3]string{"metrics.go", `[]string{"realm", "reason"}`, `[]string{"realm", "why"}`},
			want: []string{"gives caddy_kerberos_bad_replies_total the labels [realm reason], it has [realm why]"},
		},
		"a placeholder renamed in the code": {
			edit: [3]string{"module.go", `"http.negotiate.etype"`, `"http.negotiate.enctype"`},
			want: []string{"placeholder http.negotiate.enctype is in the code", "placeholder http.negotiate.etype is in docs"},
		},
		"another status in the code": {
			edit: [3]string{"status.go", "trouble{http.StatusForbidden, errNotAllowedSPN", "trouble{http.StatusBadRequest, errNotAllowedSPN"},
			want: []string{"error 400 spn_not_allowed is in the code", "error 403 spn_not_allowed is in docs"},
		},
		"an error renamed in the code": {
			edit: [3]string{"status.go", `"no_common_etype"`, `"etype"`},
			want: []string{"error 502 etype is in the code", "error no_common_etype is in docs/troubleshooting.md"},
		},
		"a Kerberos error with the wrong number": {
			b:    b.with(t, troubleshooting, "37 KRB_AP_ERR_SKEW", "38 KRB_AP_ERR_SKEW"),
			want: []string{"says that KRB_AP_ERR_SKEW is 38"},
		},
		"a Kerberos error that is left out": {
			b:    b.with(t, troubleshooting, "18 KDC_ERR_CLIENT_REVOKED", "23 KDC_ERR_KEY_EXPIRED"),
			want: []string{"status.go tells KDC_ERR_CLIENT_REVOKED apart"},
		},
		"a flag renamed in the documentation": {
			b:    b.with(t, commands, "`--kvno N`", "`--version N`"),
			want: []string{"keytab add --kvno is in the code", "keytab add --version is in docs"},
		},
		"a command that is left out": {
			b:    b.with(t, commands, "## caddy kerberos token", "## The token"),
			want: []string{"does not describe caddy kerberos token"},
		},
		"a cause renamed in the code": {
			edit: [3]string{"command_check.go", `"keytab_salt"`, `"salt"`},
			want: []string{"cause salt is in the code", "cause keytab_salt is in docs"},
		},
		"a field renamed in the code": {
			edit: [3]string{"admin.go", "`json:\"suspect,omitempty\"`", "`json:\"doubtful,omitempty\"`"},
			want: []string{"field doubtful of ticketView is not in", "field suspect is in docs/admin.md"},
		},
		"a field of the log renamed in the code": {
			edit: [3]string{"log.go", `"not_before"`, `"until"`},
			want: []string{"log field until is in the code", "log field not_before is in docs"},
		},
		"an encryption type that there is not": {
			b:    b.with(t, directives, "`camellia256-cts-cmac`", "`rot13-cts`"),
			want: []string{"encryption type rot13-cts is in docs", "encryption type camellia256-cts-cmac is in the code"},
		},
		"a route renamed in the documentation": {
			b:    b.with(t, "docs/admin.md", "`POST /kerberos/flush`", "`DELETE /kerberos/tickets`"),
			want: []string{"route POST /kerberos/flush is in the code", "route DELETE /kerberos/tickets is in docs"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := readSource(t)
			if c.edit[0] != "" {
				s = readSource(t, c.edit)
			}
			if c.b == nil {
				c.b = b
			}
			got := strings.Join(faults(c.b, s), "\n")
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("no fault has %q in\n%s", want, got)
				}
			}
		})
	}
}

func TestMissingCommentIsSeen(t *testing.T) {
	s := readSource(t, [3]string{"realm.go", "	// The domain's NetBIOS name: what `CORP\\alice` means.\n", ""})
	if got := s.undocumented(); len(got) != 1 || !strings.Contains(got[0], "Realm.NetBIOS (netbios)") {
		t.Errorf("faults %q", got)
	}
}
