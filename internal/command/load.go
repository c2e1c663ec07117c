package command

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-negotiate/caddy-negotiate/internal/secretfile"
)

// configFlags are the flags that name the configuration.
type configFlags struct {
	config, adapter string
	envfiles        []string
}

func (f *configFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "Configuration file (default: Caddyfile in this directory)")
	cmd.Flags().StringVarP(&f.adapter, "adapter", "a", "", "Name of the adapter that converts the file to JSON")
	cmd.Flags().StringSliceVar(&f.envfiles, "envfile", nil, "File with environment variables (NAME=value), may be repeated")
}

// loadEnv sets the variables of the environment files. Its errors are of the command line.
func (f *configFlags) loadEnv() error {
	for _, path := range f.envfiles {
		if err := loadEnvFile(path); err != nil {
			return err
		}
	}
	return nil
}

// load returns the configuration's JSON. Caddy's own loader reads it, as `caddy run` does, and logs
// the adapter's warnings.
func (f *configFlags) load() ([]byte, error) {
	config, file, _, err := caddycmd.LoadConfig(f.config, f.adapter)
	if err == nil && file == "" {
		err = errNoConfig
	}
	if err != nil {
		err = explainUTF16(cmp.Or(f.config, "Caddyfile"), err)
	}
	return config, err
}

// explainUTF16 says why a file does not load that an adapter reads as UTF-8 and finds NULs in.
func explainUTF16(path string, err error) error {
	file, openErr := os.Open(path)
	if openErr != nil {
		return err
	}
	defer file.Close()
	mark := make([]byte, 2)
	if _, readErr := io.ReadFull(file, mark); readErr != nil || !secretfile.IsUTF16(mark) {
		return err
	}
	return fmt.Errorf("%s: %w", path, secretfile.ErrUTF16)
}

var errNoConfig = errors.New("no Caddyfile in this directory: name the configuration with --config FILE")

// loadEnvFile sets the variables of a file that are not set yet. Caddy does not export the reader
// behind its own --envfile; this one follows its rules, so that a check sees the values that
// `caddy run` would: a # begins a comment even between quotes, and a quoted value may span lines.
func loadEnvFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading the environment file: %w", err)
	}
	defer file.Close()
	scanner := bufio.NewScanner(io.LimitReader(file, 1<<20))
	for number := 1; scanner.Scan(); number++ {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		name = strings.TrimPrefix(name, "export ")
		if !found || name == "" || strings.Contains(name, " ") || strings.HasPrefix(value, " ") || strings.HasPrefix(value, "\t") {
			return fmt.Errorf("reading the environment file: %s:%d is not NAME=value", path, number)
		}
		value, _, comment := strings.Cut(value, "#")
		if comment {
			value = strings.TrimRight(value, " \t")
		}
		if quote := value[:min(1, len(value))]; quote == `"` || quote == "'" {
			for !strings.HasSuffix(line, quote) || strings.HasSuffix(line, `\`+quote) {
				value = strings.ReplaceAll(value, `\`+quote, quote)
				if !scanner.Scan() {
					break
				}
				number++
				line = strings.ReplaceAll(scanner.Text(), `\`+quote, quote)
				value += "\n" + line
			}
			value = strings.TrimSuffix(strings.TrimPrefix(value, quote), quote)
		}
		if _, set := os.LookupEnv(name); set {
			continue
		}
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("reading the environment file: %s:%d: %w", path, number, err)
		}
	}
	return scanner.Err()
}
