package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// BinEnv names the environment variable for the folder that holds caddy and
// caddy-race, built once for all tests.
const BinEnv = "CADDY_NEGOTIATE_BIN"

var builtCaddy, builtRaceCaddy = sync.OnceValues(func() (string, error) { return buildCaddy("caddy") }),
	sync.OnceValues(func() (string, error) { return buildCaddy("caddy-race", "-race") })

// CaddyBinary is the path of Caddy with this plugin, from the folder that
// [BinEnv] names or built once for this process.
func CaddyBinary(t testing.TB) string {
	t.Helper()
	return binary(t, "caddy", builtCaddy)
}

// RaceCaddyBinary is [CaddyBinary] with the race detector in it.
func RaceCaddyBinary(t testing.TB) string {
	t.Helper()
	return binary(t, "caddy-race", builtRaceCaddy)
}

func binary(t testing.TB, name string, build func() (string, error)) string {
	t.Helper()
	if dir := os.Getenv(BinEnv); dir != "" {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func buildCaddy(name string, flags ...string) (string, error) {
	dir, err := newDir("caddy")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	args := append(append([]string{"build"}, flags...), "-o", path, "github.com/caddy-negotiate/caddy-negotiate/cmd/caddy")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %v: %w\n%s", args, err, out)
	}
	return path, nil
}
