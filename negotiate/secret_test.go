package negotiate_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/internal/secretfile"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestReadPassword(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	for content, want := range map[string]string{
		"pass word\n":                    "pass word",
		"\xef\xbb\xbfpass word\r\n":      "pass word",
		"pass word \n\n":                 "pass word \n",
		"\xff\xfep\x00a\x00\r\x00\n\x00": "",
		"\xfe\xff\x00p\x00a":             "",
		"\n":                             "",
	} {
		must.Do(t, os.WriteFile(path, []byte(content), 0o600))
		got, err := secretfile.ReadPassword(path)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", content, got, err)
		}
		if want == "" && !strings.Contains(err.Error(), path) {
			t.Errorf("%q: the error does not name the file: %v", content, err)
		}
	}
}
