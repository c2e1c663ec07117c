package docs

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// checkers say by a command's first word how it is known to be right. Those of other
// programs are listed with the words that may follow: who shows another one has to
// think of it here.
var checkers = map[string]func(args []string) error{
	"caddy":                caddyCommand,
	"/usr/bin/caddy":       caddyCommand,
	"xcaddy":               xcaddyCommand,
	"go":                   goCommand,
	"./tests/run":          scriptFlags,
	"docker":               first("build"),
	"curl":                 anything,
	"kinit":                anything,
	"systemctl":            first("reload", "restart", "enable", "daemon-reload"),
	"sc.exe":               first("create", "config", "description", "failure", "start", "stop"),
	"netsh":                first("advfirewall"),
	"mkdir":                anything,
	"icacls":               anything,
	"install":              anything,
	"setspn":               first("-Q", "-S", "-D", "-X", "-L"),
	"ktpass":               anything,
	"appcmd":               first("set"),
	"Add-KdsRootKey":       anything,
	"certutil":             first("-ca.cert", "-encode"),
	"samba-tool":           first("domain", "service-account", "spn"), // tests/realms runs those of docs/gmsa.md
	"New-ADUser":           anything,
	"Set-ADUser":           anything,
	"Get-ADUser":           anything,
	"Set-ADAccountControl": anything,
	"Add-ADGroupMember":    anything,
	"kadmin":               anything,
	"openssl":              first("rand"),
	"klist":                anything,
	"git":                  first("clone"),
	"cd":                   anything,
}

// cmdlet is a command of Windows' module ActiveDirectory.
var cmdlet = regexp.MustCompile(`^(Add|Clear|Disable|Enable|Get|Install|New|Remove|Set|Test|Unlock)-AD[A-Z][A-Za-z]+$`)

func anything([]string) error { return nil }

func first(words ...string) func([]string) error {
	return func(args []string) error {
		if len(args) == 0 || !slices.Contains(words, args[0]) {
			return fmt.Errorf("none of %v follows", words)
		}
		return nil
	}
}

// caddyCommand parses a command as Caddy does, down to the flags.
func caddyCommand(args []string) error {
	if len(args) == 0 {
		return nil
	}
	known, ok := caddycmd.Commands()[args[0]]
	if !ok {
		return fmt.Errorf("caddy has no command %s", args[0])
	}
	cmd := &cobra.Command{Use: args[0], RunE: func(*cobra.Command, []string) error { return nil }}
	if known.Flags != nil {
		cmd.Flags().AddGoFlagSet(known.Flags)
	}
	if known.CobraFunc != nil {
		cmd.RunE = nil
		known.CobraFunc(cmd)
	}
	found, rest, err := cmd.Find(args[1:])
	if err != nil {
		return err
	}
	if found.HasSubCommands() {
		return fmt.Errorf("%v names no command of %s", args, found.Name())
	}
	if err := found.ParseFlags(rest); err != nil {
		return err
	}
	if found.Args != nil {
		if err := found.Args(found, found.Flags().Args()); err != nil {
			return err
		}
	}
	return found.ValidateRequiredFlags()
}

// xcaddyCommand knows `xcaddy build VERSION --with MODULE[=FOLDER]`, of this module.
func xcaddyCommand(args []string) error {
	if len(args) != 4 || args[0] != "build" || args[2] != "--with" {
		return fmt.Errorf("%v is no build with one module", args)
	}
	mod, err := os.ReadFile(root + "/go.mod")
	if err != nil {
		return err
	}
	module, folder, local := strings.Cut(args[3], "=")
	if !strings.HasPrefix(string(mod), "module "+module+"\n") || local && folder != "." {
		return fmt.Errorf("%s is not this module", args[3])
	}
	if !strings.Contains(string(mod), "github.com/caddyserver/caddy/v2 "+args[1]+"\n") {
		return fmt.Errorf("go.mod has another Caddy than %s", args[1])
	}
	return nil
}

// goCommand knows build, run, test and vet of packages that are here, and the flags of
// those that are run.
func goCommand(args []string) error {
	if len(args) < 2 || !slices.Contains([]string{"build", "run", "test", "vet", "doc"}, args[0]) {
		return fmt.Errorf("%v is not known", args)
	}
	source := ""
	for _, arg := range args[1:] {
		switch {
		case strings.HasPrefix(arg, "./"):
			folder := root + "/" + strings.TrimSuffix(strings.TrimPrefix(arg, "./"), "...")
			entries, err := os.ReadDir(folder)
			if err != nil {
				return err
			}
			for _, e := range entries {
				if strings.HasSuffix(e.Name(), ".go") && !strings.HasSuffix(e.Name(), "_test.go") {
					content, err := os.ReadFile(folder + "/" + e.Name())
					if err != nil {
						return err
					}
					source += string(content)
				}
			}
		case args[0] == "run" && strings.HasPrefix(arg, "-"):
			if !regexp.MustCompile(`flag\.\w+\("` + arg[1:] + `"`).MatchString(source) {
				return fmt.Errorf("it has no flag %s", arg)
			}
		}
	}
	return nil
}

// scriptFlags are those of tests/run.
func scriptFlags(args []string) error {
	script, err := os.ReadFile(root + "/tests/run")
	if err != nil {
		return err
	}
	for _, flag := range args {
		if !strings.Contains(string(script), "\n\t"+flag+") ") {
			return fmt.Errorf("tests/run has no flag %s", flag)
		}
	}
	return nil
}

var word = regexp.MustCompile(`'[^']*'|"[^"]*"|[^\s|]+|\|`)

// checkCommand tells what is wrong with a line that people type.
func checkCommand(line string) error {
	line, _, _ = strings.Cut(line, "   ") // what it prints or means
	line = strings.TrimPrefix(line, "sudo ")
	words := word.FindAllString(line, -1)
	for len(words) > 0 && strings.Contains(words[0], "=") {
		words = words[1:] // of the environment
	}
	if len(words) == 0 {
		return nil
	}
	check, ok := checkers[words[0]]
	if cmdlet.MatchString(words[0]) {
		check, ok = anything, true
	}
	if !ok {
		return fmt.Errorf("unknown command %s", words[0])
	}
	return check(words[1:])
}

// inline are commands in running text that name no placeholder such as NAME.
var inline = regexp.MustCompile(`^(caddy (?:kerberos|validate|reload|fmt|adapt|run|list-modules)\b.*|go (?:run|build|test) .*|\./tests/run.*|xcaddy build .*)$`)

func TestCommands_Exist(t *testing.T) {
	b := readBook(t)
	n := 0
	for page := range b {
		for _, code := range b.blocks(page) {
			if code.lang != "" && code.lang != "sh" && code.lang != "powershell" || strings.ContainsAny(code.text, "┌│→") || code.lang == "" && strings.Contains(b[page], "```\n"+code.text) {
				continue // a picture, or a text in a fence without a language
			}
			for line := range strings.SplitSeq(strings.ReplaceAll(code.text, "\\\n", " "), "\n") {
				if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
					continue
				}
				n++
				if err := checkCommand(line); err != nil {
					t.Errorf("%s:%d: %s: %v", page, code.line, line, err)
				}
			}
		}
		for _, code := range spans(b[page]) {
			name, isCommand := strings.CutPrefix(code, "caddy kerberos")
			if !inline.MatchString(code) || isCommand && (name == "" || name == " ..." || page == "docs/commands.md") {
				continue
			}
			n++
			if err := checkCommand(code); err != nil {
				t.Errorf("%s: `%s`: %v", page, code, err)
			}
		}
	}
	if n < 30 {
		t.Errorf("%d commands only", n)
	}
}

var blob = regexp.MustCompile(`github\.com/caddy-negotiate/caddy-negotiate/blob/main/([\w./-]+)`)

// The pages that help texts name are there.
func TestCommands_HelpNamesPages(t *testing.T) {
	named := 0
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		var help strings.Builder
		cmd.SetOut(&help)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		for _, m := range blob.FindAllStringSubmatch(help.String(), -1) {
			named++
			if _, err := os.Stat(root + "/" + m[1]); err != nil {
				t.Errorf("%s --help: %v", cmd.CommandPath(), err)
			}
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(kerberosCommand())
	if named < 10 {
		t.Errorf("%d pages named", named)
	}
}

func TestCommands_FaultsAreFound(t *testing.T) {
	for line, want := range map[string]string{
		"caddy kerberos check --config Caddyfile --host x":      "unknown flag: --host",
		"caddy kerberos keytab add x.keytab --kvno 2":           `required flag(s) "principal"`,
		"caddy kerberos keytab list":                            "accepts 1 arg",
		"caddy kerberos inspect":                                "inspect",
		"caddy inspect":                                         "no command inspect",
		"go run ./examples/demo -twice":                         "no flag -twice",
		"go run ./examples/demonstration":                       "no such file",
		"./tests/run -fast":                                     "no flag -fast",
		"xcaddy build v2.0.0 --with github.com/example/other=.": "not this module",
		"caddy-kerberos check":                                  "unknown command",
	} {
		if err := checkCommand(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
