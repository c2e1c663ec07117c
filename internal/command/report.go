package command

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/internal/version"
)

// The steps of a check, in the order in which a request takes them.
const (
	stepConfig     = "configuration"
	stepFiles      = "files"
	stepDiscovery  = "discovery"
	stepReach      = "reachability"
	stepClock      = "clock"
	stepLogin      = "login"
	stepDirectory  = "directory"
	stepTicket     = "ticket"
	stepDelegation = "delegation"
	stepSignIn     = "sign-in"
	stepUpstream   = "upstream"
	stepPackages   = "packages"
	stepAccount    = "account"
	stepCache      = "cache"
	stepBinding    = "binding"
)

// The results of a step.
const (
	statusOK   = "ok"
	statusWarn = "warn"
	statusFail = "FAIL"
)

// step is one line of the report.
type step struct {
	Subject string `json:"subject,omitempty"`
	Step    string `json:"step"`
	Status  string `json:"status"`
	Text    string `json:"text"`
	Remedy  string `json:"remedy,omitempty"`
	// Causes has several values where the protocol does not distinguish them; the remedy says how
	// people can.
	Causes []diagnosis.Cause `json:"causes,omitempty"`
}

// report collects the steps of a check and writes each as it comes.
type report struct {
	*console
	json    bool   // all steps at the end, for programs
	subject string // of the next steps
	printed string // the subject that was written last
	Steps   []step
}

func (r *report) add(s step) {
	s.Subject = r.subject
	r.Steps = append(r.Steps, s)
	if r.json {
		return
	}
	r.progress("")
	if r.printed != r.subject {
		fmt.Fprintf(r.out, "%s\n", r.paint(bold, r.subject))
		r.printed = r.subject
	}
	colour := map[string]string{statusOK: green, statusWarn: yellow, statusFail: red}[s.Status]
	fmt.Fprintf(r.out, "  %s  %-13s  %s\n", r.paint(colour, fmt.Sprintf("%-4s", s.Status)), s.Step, s.Text)
	if s.Remedy != "" {
		fmt.Fprintf(r.out, "        -> %s\n", strings.ReplaceAll(s.Remedy, "\n", "\n           "))
	}
}

func (r *report) ok(name, format string, args ...any) {
	r.add(step{Step: name, Status: statusOK, Text: fmt.Sprintf(format, args...)})
}

func (r *report) warn(name, text, remedy string, causes ...diagnosis.Cause) {
	r.add(step{Step: name, Status: statusWarn, Text: text, Remedy: remedy, Causes: causes})
}

func (r *report) fail(name, text, remedy string, causes ...diagnosis.Cause) {
	r.add(step{Step: name, Status: statusFail, Text: text, Remedy: remedy, Causes: causes})
}

// failAs adds a step that failed, with the remedy and the causes of a diagnosis.
func (r *report) failAs(name, text string, d diagnosis.Diagnosis) {
	r.fail(name, text, d.Remedy, d.Causes...)
}

func (r *report) waiting(format string, args ...any) {
	if !r.json {
		r.progress("  ...   " + fmt.Sprintf(format, args...))
	}
}

// count returns how many steps have the status.
func (r *report) count(status string) (n int) {
	for _, s := range r.Steps {
		if s.Status == status {
			n++
		}
	}
	return n
}

// end writes the result of all steps. It returns errReported if one failed.
func (r *report) end() error {
	failures, warnings := r.count(statusFail), r.count(statusWarn)
	if r.json {
		view := struct {
			version.Info
			OK       bool   `json:"ok"`
			Failures int    `json:"failures"`
			Warnings int    `json:"warnings"`
			Steps    []step `json:"steps"`
		}{version.Current(), failures == 0, failures, warnings, r.Steps}
		if err := r.writeJSON(view); err != nil {
			return err
		}
	} else {
		r.progress("")
		fmt.Fprintln(r.out, r.summary(failures, warnings))
	}
	if failures > 0 {
		return errReported
	}
	return nil
}

// summary is the last line: "OK", "OK: 1 warning", or "FAILED: 1 error, 2 warnings".
func (r *report) summary(failures, warnings int) string {
	var counts []string
	text := r.paint(green, "OK")
	if failures > 0 {
		text = r.paint(red, "FAILED")
		counts = append(counts, english.Plural(failures, "error", ""))
	}
	if warnings > 0 {
		counts = append(counts, english.Plural(warnings, "warning", ""))
	}
	if len(counts) > 0 {
		text += ": " + strings.Join(counts, ", ")
	}
	return text
}

// check is one run of `check`: its report, and what its steps share.
type check struct {
	*report
	checkOptions
	modules caddy.Context // provisions modules without running them
}

// checkOptions select what is checked.
type checkOptions struct {
	platform            bool // Windows itself, without a configuration
	identity, spn, user string
	passwordFile        string   // of user
	target              *url.URL // nil for the configuration's upstream
	patience            time.Duration
}
