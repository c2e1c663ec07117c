package caddynegotiate

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:      "kerberos",
		Usage:     "<check|identities|tickets|flush|keytab|token>",
		Short:     "Checks Kerberos set-ups and shows what a running Caddy holds of tickets",
		Long:      "Checks Kerberos set-ups, shows and flushes the tickets of a running Caddy, and handles keytabs.\nBegin with: caddy kerberos check --config Caddyfile",
		CobraFunc: addKerberosCommands,
	})
}

// addKerberosCommands hangs the subcommands under `caddy kerberos`.
func addKerberosCommands(parent *cobra.Command) {
	parent.AddCommand(
		newCheckCommand(), newIdentitiesCommand(), newTicketsCommand(), newFlushCommand(), newKeytabCommand(), newTokenCommand(),
	)
	for _, cmd := range parent.Commands() {
		cmd.SilenceUsage = true
	}
}

// errSaid ends a command that has said itself what is wrong.
var errSaid = errors.New("not all is well")

// run gives the function of a command: what it returns becomes the exit status.
func run(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := f(cmd, args)
		if errors.Is(err, errSaid) {
			cmd.SilenceErrors = true
		}
		return err
	}
}

// console is where a command writes to.
type console struct {
	out     io.Writer
	notes   io.Writer // progress; nil where nobody watches
	colours bool
	width   int // of tables; zero for no bound
}

func consoleOf(cmd *cobra.Command) *console {
	c := &console{out: cmd.OutOrStdout()}
	if isTerminal(c.out) {
		c.width = terminalWidth
		c.colours = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		if isTerminal(cmd.ErrOrStderr()) && c.colours {
			c.notes = cmd.ErrOrStderr()
		}
	}
	return c
}

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// progress says what is being waited for, on one line that the next one replaces.
func (c *console) progress(text string) {
	if c.notes != nil {
		fmt.Fprintf(c.notes, "\r\x1b[K  ...   %s", text)
	}
}

// settle takes the progress line away.
func (c *console) settle() {
	if c.notes != nil {
		fmt.Fprint(c.notes, "\r\x1b[K")
	}
}

// The colours of a terminal.
const (
	green  = "32"
	yellow = "33"
	red    = "31;1"
	bold   = "1"
)

func (c *console) paint(colour, text string) string {
	if !c.colours {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// writeJSON writes a value for programs.
func (c *console) writeJSON(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// configFlags say where the configuration is.
type configFlags struct {
	config, adapter string
	envfiles        []string
}

func (f *configFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "Configuration file (default: Caddyfile in this folder)")
	cmd.Flags().StringVarP(&f.adapter, "adapter", "a", "", "Name of the adapter that turns it into JSON")
	cmd.Flags().StringArrayVar(&f.envfiles, "envfile", nil, "File with environment variables (NAME=value)")
}

// load reads the configuration as `caddy run` would, and gives its JSON.
func (f *configFlags) load(stdin io.Reader) (file string, config []byte, warnings []caddyconfig.Warning, err error) {
	for _, path := range f.envfiles {
		if err := loadEnv(path); err != nil {
			return "", nil, nil, err
		}
	}
	file, adapter := f.config, f.adapter
	if file == "" {
		file = "Caddyfile"
	}
	if file == "-" {
		config, err = io.ReadAll(stdin)
	} else {
		config, err = os.ReadFile(file)
	}
	if errors.Is(err, fs.ErrNotExist) && f.config == "" {
		return "", nil, nil, errors.New("there is no Caddyfile in this folder; name the configuration with --config FILE")
	}
	if err != nil {
		return file, nil, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	base := strings.ToLower(filepath.Base(file))
	if adapter == "" && filepath.Ext(base) != ".json" && (strings.HasPrefix(base, "caddyfile") || strings.HasSuffix(base, ".caddyfile")) {
		adapter = "caddyfile"
	}
	if adapter == "" {
		return file, config, nil, nil
	}
	adapt := caddyconfig.GetAdapter(adapter)
	if adapt == nil {
		return file, nil, nil, fmt.Errorf("there is no adapter %s; `caddy list-modules` shows those of this build", adapter)
	}
	config, warnings, err = adapt.Adapt(config, map[string]any{"filename": file})
	return file, config, warnings, err
}

// loadEnv sets the variables of a file that are not set yet, as `caddy run --envfile`
// does.
func loadEnv(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading the environment file: %w", err)
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	for line := 1; scanner.Scan(); line++ {
		text := strings.TrimSpace(scanner.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(text, "export "), "=")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return fmt.Errorf("%s:%d: no NAME=value", path, line)
		}
		if _, set := os.LookupEnv(name); set {
			continue
		}
		if err := os.Setenv(name, unquote(strings.TrimSpace(value))); err != nil {
			return fmt.Errorf("%s:%d: %w", path, line, err)
		}
	}
	return scanner.Err()
}

func unquote(value string) string {
	for _, quote := range []string{`"`, `'`, "`"} {
		if len(value) >= 2 && strings.HasPrefix(value, quote) && strings.HasSuffix(value, quote) {
			return value[1 : len(value)-1]
		}
	}
	if before, _, comment := strings.Cut(value, " #"); comment {
		return strings.TrimSpace(before)
	}
	return value
}
