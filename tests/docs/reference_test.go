package docs

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/internal/adminapi"
	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/internal/logging"
	"github.com/caddy-negotiate/caddy-negotiate/internal/metrics"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

const (
	directives      = "docs/directives.md"
	troubleshooting = "docs/troubleshooting.md"
	commands        = "docs/commands.md"
	signIn          = "docs/sign-in.md"
	admin           = "docs/admin.md"
)

// faults is what the reference lacks, and what it has and the plugin has not.
func faults(b book) []string {
	var all []string
	for _, check := range []func(book) []string{
		directiveFaults, metricFaults, errorFaults, codeFaults, commandFaults, causeFaults, routeFaults, logFaults, enctypeFaults, signInFaults,
	} {
		all = append(all, check(b)...)
	}
	return all
}

func TestReference_Complete(t *testing.T) {
	for _, fault := range faults(readBook(t)) {
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

// texts converts typed strings.
func texts[S ~string](all []S) []string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = string(s)
	}
	return out
}

// moduleType is the struct of a module that Caddy knows.
func moduleType(id string) reflect.Type {
	info, err := caddy.GetModule(id)
	if err != nil {
		panic(err)
	}
	return reflect.TypeOf(info.New()).Elem()
}

// fields are the types of a struct's JSON fields by their names, with those of embedded
// structs, but not with those of reverse_proxy's HTTP transport.
func fields(of reflect.Type) map[string]reflect.Type {
	found := make(map[string]reflect.Type)
	for of.Kind() != reflect.Struct {
		of = of.Elem() // a pointer, or what a list or map holds
	}
	for f := range of.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && !strings.Contains(f.Type.String(), "HTTPTransport"):
			maps.Copy(found, fields(f.Type))
		case name != "" && name != "-":
			found[name] = f.Type
		}
	}
	return found
}

// inCaddyfile are the subdirectives by JSON fields that have another name; those with an
// empty one have none.
var inCaddyfile = map[string]string{
	"identity": "", "credentials": "", "duration": "", "realms": "realm", "identities": "identity", "trace_packets": "trace",
	"tls_client_key": "tls_client_cert", "channel_binding_cert": "channel_binding", "ticket_store_key": "ticket_store",
}

// directiveFaults compares the tables of subdirectives with the JSON that they are read
// into. TestReference_SubdirectivesAreAccepted shows that the Caddyfile takes each of them.
func directiveFaults(b book) (faults []string) {
	handler, transport, app := fields(moduleType("http.handlers.negotiate")), fields(moduleType("http.reverse_proxy.transport.negotiate")), fields(moduleType("kerberos"))
	credentials, auth := fields(app["identities"]), fields(moduleType("http.handlers.negotiate_auth"))
	maps.DeleteFunc(transport, func(name string, _ reflect.Type) bool { return handler[name] != nil })
	for heading, all := range map[string]map[string]reflect.Type{
		"## Credentials":                credentials,
		"### kdc_options":               fields(credentials["kdc_options"]),
		"## Service and token":          handler,
		"## transport negotiate only":   transport,
		"## negotiate_auth":             auth,
		"### session":                   fields(auth["session"]),
		"## The global option kerberos": app,
		"### realm":                     fields(app["realms"]),
	} {
		var code []string
		for name := range all {
			if other, ok := inCaddyfile[name]; ok && all[name].Kind() != reflect.Slice {
				name = other
			}
			if name != "" {
				code = append(code, name)
			}
		}
		faults = append(faults, differ("subdirective", directives+" under "+heading, code, column(b.own(directives, heading), 0))...)
	}
	return faults
}

var metricName = regexp.MustCompile(`\bcaddy_(?:negotiate|kerberos)_[a-z_]+`)

// metricFaults compares names and labels. live_test.go shows their types.
func metricFaults(b book) (faults []string) {
	labels := make(map[string][]string)
	for _, d := range metrics.Descriptions() {
		labels[d.Name] = d.Labels
	}
	var documented []string
	for _, cells := range metricRows(b) {
		name := spans(cells[0])[0]
		documented = append(documented, name)
		if known, ok := labels[name]; ok && !slices.Equal(spans(cells[2]), known) {
			faults = append(faults, fmt.Sprintf("docs/metrics.md gives %s the labels %v, it has %v", name, spans(cells[2]), known))
		}
	}
	faults = append(faults, differ("metric", "docs/metrics.md", slices.Collect(maps.Keys(labels)), documented)...)
	for page, text := range b {
		for _, name := range metricName.FindAllString(text, -1) {
			known := slices.ContainsFunc([]string{"", "_bucket", "_sum", "_count"}, func(suffix string) bool {
				_, ok := labels[strings.TrimSuffix(name, suffix)]
				return ok
			})
			if !known {
				faults = append(faults, fmt.Sprintf("%s names the metric %s, which does not exist", page, name))
			}
		}
	}
	return faults
}

// metricRows are the rows of the table of metrics.
func metricRows(b book) (all [][]string) {
	for _, cells := range rows(b["docs/metrics.md"]) {
		if names := spans(cells[0]); len(names) == 1 && len(cells) == 4 && metricName.MatchString(names[0]) {
			all = append(all, cells)
		}
	}
	return all
}

// errorFaults compares statuses and words with the rules of the diagnosis.
func errorFaults(b book) []string {
	var code, documented []string
	var words []string
	for _, d := range diagnosis.All() {
		if d.Word != "" {
			code, words = append(code, fmt.Sprintf("%d %s", d.Status, d.Word)), append(words, string(d.Word))
		}
	}
	for _, cells := range rows(b.own(directives, "## Errors and status codes")) {
		for _, name := range spans(cells[2]) {
			documented = append(documented, regexp.MustCompile(`\d{3}`).FindString(cells[1])+" "+name)
		}
	}
	faults := differ("error", directives, code, documented)
	var found []string // where users look for them
	for _, cells := range rows(b.own(troubleshooting, "## By the status that clients see")) {
		found = append(found, spans(cells[0])...)
	}
	return append(faults, differ("error", troubleshooting, words, found)...)
}

// ruled reports whether the diagnosis of a refusal depends on its code being this one.
func ruled(code messages.ErrorCode) bool {
	diagnose := func(code messages.ErrorCode) (all []diagnosis.Diagnosis) {
		for _, op := range []krb5core.Op{krb5core.OpLogin, krb5core.OpService, krb5core.OpS4USelf, krb5core.OpS4UProxy} {
			all = append(all, diagnosis.Of(&krb5core.Error{Op: op, Refused: true, Code: code, Err: errors.New("refused")}))
		}
		return all
	}
	return !reflect.DeepEqual(diagnose(code), diagnose(messages.ErrorCode(127)))
}

var krbName = regexp.MustCompile(`\b(?:KDC|KRB|KRB_AP)_ERR_[A-Z0-9_]+\b`)

// codeFaults compares the table of Kerberos errors with those that a rule names, and
// with the registry.
func codeFaults(b book) (faults []string) {
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
	for code := range messages.ErrorCode(128) {
		if ruled(code) && !documented[code.String()] {
			faults = append(faults, fmt.Sprintf("a rule is about %s, and %s does not have it", code, troubleshooting))
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

func commandFaults(b book) []string {
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
	flags := make(map[string][]string) // by section: commands may share one
	for name, cmd := range code {
		section, ok := described[name]
		if !ok {
			faults = append(faults, fmt.Sprintf("%s does not describe caddy kerberos %s", commands, name))
			continue
		}
		for _, m := range usage.FindAllStringSubmatch(cmd.LocalFlags().FlagUsages(), -1) {
			for _, flag := range m[1:] {
				if flag != "" {
					flags[section] = append(flags[section], name+" "+flag)
				}
			}
		}
	}
	for section, code := range flags {
		var bare, documented []string
		for _, flag := range code {
			bare = append(bare, flag[strings.LastIndexByte(flag, ' ')+1:])
		}
		for _, word := range column(section, 0) {
			if strings.HasPrefix(word, "-") {
				documented = append(documented, word)
			}
		}
		faults = append(faults, differ("flag, as in "+code[0]+",", commands, bare, documented)...)
	}
	return faults
}

// causeFaults compares the causes that `check --json` may report.
func causeFaults(b book) []string {
	var causes []string
	for _, name := range column(b.section(commands, "## caddy kerberos check"), 0) {
		if !strings.HasPrefix(name, "-") {
			causes = append(causes, name)
		}
	}
	return differ("cause", commands, texts(diagnosis.Causes()), causes)
}

// routeFaults compares the routes of the admin API, and the fields of their answers.
func routeFaults(b book) []string {
	intro, _, _ := strings.Cut(b[admin], "\n## ")
	var code, routes []string
	for _, e := range adminapi.Endpoints() {
		code = append(code, e.Method+" "+e.Path)
	}
	for _, cells := range rows(intro) {
		routes = append(routes, spans(cells[0])...)
	}
	faults := differ("route", admin, code, routes)
	for heading, views := range map[string][]any{
		"## An identity": {
			adminapi.IdentitiesView{},
			adminapi.IdentityView{},
			adminapi.KeyView{},
			adminapi.TicketTimes{},
			adminapi.BreakerView{},
			adminapi.KDCView{},
			adminapi.ProblemView{},
			adminapi.FailureView{},
		},
		"## Ready":    {adminapi.ReadyView{}, adminapi.ReasonView{}},
		"## A ticket": {adminapi.TicketView{}},
		"## A flush":  {adminapi.FlushView{}},
	} {
		section, known := b.section(admin, heading), make(map[string]reflect.Type)
		for _, view := range views {
			maps.Copy(known, fields(reflect.TypeOf(view)))
		}
		for field := range known {
			if !slices.Contains(spans(section), field) {
				faults = append(faults, fmt.Sprintf("field %s of %T is not in %s", field, views[0], admin))
			}
		}
		for _, field := range column(section, 0) {
			if known[field] == nil {
				faults = append(faults, fmt.Sprintf("field %s is in %s under %s, and not in the code", field, admin, heading))
			}
		}
	}
	return faults
}

// signInFaults compares the reasons for which tokens of clients are refused, and what they count as.
func signInFaults(b book) []string {
	var code, documented []string
	for _, s := range diagnosis.SignIns() {
		code = append(code, fmt.Sprintf("%s: %d %s", s.Reason, s.Status, s.Result))
	}
	for _, cells := range rows(b.own(signIn, "## If a user is not signed in")) {
		if names := spans(cells[0]); len(names) == 1 && len(spans(cells[1])) == 1 && cells[1] != "" {
			documented = append(documented, fmt.Sprintf("%s: %s %s", names[0], strings.Fields(cells[1])[0], spans(cells[1])[0]))
		}
	}
	faults := differ("reason", signIn, code, documented)
	for _, cells := range metricRows(b) {
		if spans(cells[0])[0] != "caddy_negotiate_sign_ins_total" {
			continue
		}
		var results []string
		for _, name := range spans(cells[3]) {
			if name != "negotiate_auth" && name != "realms" {
				results = append(results, name)
			}
		}
		faults = append(faults, differ("result", "docs/metrics.md", texts(diagnosis.SignInResults()), results)...)
	}
	return faults
}

func logFaults(b book) []string {
	return differ("log field", troubleshooting, logging.Fields(), column(b.own(troubleshooting, "## The log"), 0))
}

func enctypeFaults(b book) []string {
	var code, documented []string
	for id := range enctype.ID(64) {
		if id.Supported() {
			code = append(code, id.String())
		}
	}
	for _, cells := range rows(b.own(directives, "## Credentials")) {
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

// Each edit of the documentation has to be noticed.
func TestReference_FaultsAreFound(t *testing.T) {
	b := readBook(t)
	for name, c := range map[string]struct {
		page, old, text string
		want            []string // parts of the faults
	}{
		"subdirective": {
			directives, "`netbios ", "`short_name ", []string{"netbios is in the code, and not", "short_name is in docs/directives.md"},
		},
		"metric": {
			"docs/metrics.md", "caddy_kerberos_tickets`", "caddy_kerberos_ticket_count`",
			[]string{"metric caddy_kerberos_tickets is in the code", "metric caddy_kerberos_ticket_count is in docs/metrics.md"},
		},
		"metric elsewhere": {
			"docs/architecture.md", "# Architecture", "# Architecture\n\n`caddy_negotiate_dreams_total`",
			[]string{"docs/architecture.md names the metric caddy_negotiate_dreams_total"},
		},
		"label":           {"docs/metrics.md", "`realm`, `reason`", "`realm`, `why`", []string{"gives caddy_kerberos_bad_replies_total the labels [realm why]"}},
		"status":          {directives, "| 403 | `spn_not_allowed`", "| 400 | `spn_not_allowed`", []string{"error 403 spn_not_allowed is in the code", "error 400 spn_not_allowed is in docs"}},
		"number":          {troubleshooting, "37 KRB_AP_ERR_SKEW", "38 KRB_AP_ERR_SKEW", []string{"says that KRB_AP_ERR_SKEW is 38"}},
		"Kerberos error":  {troubleshooting, "18 KDC_ERR_CLIENT_REVOKED", "52 KRB_ERR_RESPONSE_TOO_BIG", []string{"a rule is about KDC_ERR_CLIENT_REVOKED"}},
		"flag":            {commands, "`--kvno N`", "`--version N`", []string{"--kvno is in the code", "--version is in docs"}},
		"command":         {commands, "## caddy kerberos token", "## The token", []string{"does not describe caddy kerberos token"}},
		"cause":           {commands, "`keytab_salt`", "`salt`", []string{"cause keytab_salt is in the code", "cause salt is in docs"}},
		"admin field":     {admin, "| `suspect` |", "| `doubtful` |", []string{"field suspect of adminapi.TicketView is not in", "field doubtful is in docs/admin.md"}},
		"route":           {admin, "`POST /kerberos/flush`", "`DELETE /kerberos/tickets`", []string{"route POST /kerberos/flush is in the code", "route DELETE /kerberos/tickets is in docs"}},
		"log field":       {troubleshooting, "| `not_before` |", "| `until` |", []string{"log field not_before is in the code", "log field until is in docs"}},
		"reason":          {signIn, "| `wrong_key` | 401 `bad_token`", "| `wrong_key` | 401 `clock`", []string{"reason wrong_key: 401 bad_token is in the code", "reason wrong_key: 401 clock is in docs"}},
		"result":          {"docs/metrics.md", "`bad_binding`", "`bad_bindings`", []string{"result bad_binding is in the code", "result bad_bindings is in docs"}},
		"encryption type": {directives, "`camellia256-cts-cmac`", "`rot13-cts`", []string{"encryption type rot13-cts is in docs", "encryption type camellia256-cts-cmac is in the code"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(faults(b.with(t, c.page, c.old, c.text)), "\n")
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("no fault has %q in\n%s", want, got)
				}
			}
		})
	}
}

// The Caddyfile takes each subdirective of the tables: it may want arguments, but knows
// the name.
func TestReference_SubdirectivesAreAccepted(t *testing.T) {
	b := readBook(t)
	for heading, block := range map[string]string{
		"## Credentials":                ":80 {\n negotiate {\n %s\n }\n}",
		"### kdc_options":               ":80 {\n negotiate {\n kdc_options {\n %s\n }\n }\n}",
		"## Service and token":          ":80 {\n negotiate {\n %s\n }\n}",
		"## transport negotiate only":   ":80 {\n reverse_proxy a {\n transport negotiate {\n %s\n }\n }\n}",
		"## negotiate_auth":             ":80 {\n negotiate_auth {\n %s\n }\n}",
		"### session":                   ":80 {\n negotiate_auth {\n session {\n %s\n }\n }\n}",
		"## The global option kerberos": "{\n kerberos {\n %s\n }\n}",
		"### realm":                     "{\n kerberos {\n realm A {\n %s\n }\n }\n}",
	} {
		names := column(b.own(directives, heading), 0)
		if len(names) == 0 {
			t.Errorf("no table under %s", heading)
		}
		for _, name := range append(names, "no_such_name") {
			_, _, err := caddytest.Adapt(fmt.Sprintf(block, name))
			unknown := err != nil && strings.Contains(err.Error(), "unrecognized")
			if unknown != (name == "no_such_name") {
				t.Errorf("%s: %s: %v", heading, name, err)
			}
		}
	}
}
