package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// Placeholders lists the placeholders that Caddy's replacer finds in a text.
func Placeholders(text string) ([]string, error) {
	var names []string
	_, err := caddy.NewEmptyReplacer().ReplaceFunc(text, func(name string, _ any) (any, error) {
		names = append(names, name)
		return "", nil
	})
	return names, err
}

// Fixed reports whether a placeholder's value is set by the operator and does not
// depend on the request.
func Fixed(name string) bool {
	return strings.HasPrefix(name, "env.") || strings.HasPrefix(name, "file.") || strings.HasPrefix(name, "system.")
}

// ExpandSecret replaces {env.X} and {file./abs} in a setting. It rejects other
// placeholders, which have no value when the configuration is loaded.
func ExpandSecret(value string) (string, error) {
	if err := checkSecretPlaceholders(value); err != nil {
		return "", err
	}
	if !strings.Contains(value, "{") {
		return value, nil
	}
	out, err := caddy.NewReplacer().ReplaceOrErr(value, true, true)
	if err != nil {
		return "", fmt.Errorf("%w; is the variable set, does the file exist?", err)
	}
	return out, nil
}

// checkSecretPlaceholders rejects placeholders other than {env.X} and {file./abs}.
func checkSecretPlaceholders(value string) error {
	for i := range len(value) {
		if value[i] != '{' || i > 0 && value[i-1] == '\\' {
			continue
		}
		if after := value[i+1:]; !strings.HasPrefix(after, "env.") && !strings.HasPrefix(after, "file.") {
			return errors.New("only the placeholders {env.NAME} and {file./absolute/path} are allowed here; write a literal { as \\{")
		}
	}
	return nil
}

// Literal reports whether a secret is written out in the configuration.
func Literal(value string) bool {
	return !strings.Contains(value, "{env.") && !strings.Contains(value, "{file.")
}

// compileGlobs compiles patterns in which * matches any characters, dots
// included, without regard to case. An empty list matches nothing.
func compileGlobs(patterns []string) *regexp.Regexp {
	if len(patterns) == 0 {
		return regexp.MustCompile(`[^\s\S]`)
	}
	quoted := make([]string, len(patterns))
	for i, p := range patterns {
		quoted[i] = strings.ReplaceAll(regexp.QuoteMeta(p), `\*`, `.*`)
	}
	return regexp.MustCompile(`(?is)^(?:` + strings.Join(quoted, "|") + `)$`)
}
