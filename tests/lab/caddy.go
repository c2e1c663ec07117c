package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// BinEnv is the environment variable with the folder that contains caddy, built once
// for all tests.
const BinEnv = "CADDY_NEGOTIATE_BIN"

var builtCaddy = sync.OnceValues(buildCaddy)

// CaddyBinary returns the path of Caddy with this plugin, from the folder that
// [BinEnv] names or built once for this process.
func CaddyBinary(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv(BinEnv); dir != "" {
		path := filepath.Join(dir, "caddy")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := builtCaddy()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func buildCaddy() (string, error) {
	dir, err := newDir("caddy")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "caddy")
	args := []string{"build", "-o", path, "github.com/caddy-negotiate/caddy-negotiate/cmd/caddy"}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %v: %w\n%s", args, err, out)
	}
	return path, nil
}
