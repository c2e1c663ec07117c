//go:build unix

package docs

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// staticCaddy is Caddy as the Dockerfile builds it; tests/run has done so already.
func staticCaddy(t *testing.T) string {
	t.Helper()
	if os.Getenv(lab.BinEnv) != "" {
		return lab.CaddyBinary(t)
	}
	path := filepath.Join(t.TempDir(), "caddy")
	cmd := exec.Command("go", "build", "-o", path, "github.com/caddy-negotiate/caddy-negotiate/cmd/caddy")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// The image holds nothing but Caddy, its configuration and the keytab. So does this
// folder, in which Caddy is locked.
func TestExample_Container(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("LEFT OUT: an empty container (chroot takes root)")
	}
	e := newEnv(t)
	iis := e.upstream("iis.corp.example", false, host("iis"))
	image := t.TempDir()
	for _, folder := range []string{"etc/caddy", "run/secrets"} {
		if err := os.MkdirAll(filepath.Join(image, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	address := caddytest.FreeAddress(t)
	put := func(path string, content []byte, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(image, path), content, mode); err != nil {
			t.Fatal(err)
		}
	}
	binary, err := os.ReadFile(staticCaddy(t))
	if err != nil {
		t.Fatal(err)
	}
	put("caddy", binary, 0o755)
	config := strings.ReplaceAll(read(t, "examples/container/Caddyfile"), "http://:8080", "http://"+address)
	put("etc/caddy/Caddyfile", []byte(config), 0o644)
	keys, err := os.ReadFile(e.folder.path + "/run/secrets/svc-proxy.keytab")
	if err != nil {
		t.Fatal(err)
	}
	put("run/secrets/svc-proxy.keytab", keys, 0o400)
	if err := os.Chown(filepath.Join(image, "run/secrets/svc-proxy.keytab"), 65532, 65532); err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command("/caddy", "run", "--config", "/etc/caddy/Caddyfile")
	cmd.Dir = "/"
	cmd.Env = []string{"KDC=" + e.kdc.Addr(), "KERBEROS_USER=" + proxyAccount, "SPN=HTTP/iis.corp.example", "UPSTREAM=http://" + iis.Addr()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: image, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	awaitLine(t, log, "serving initial configuration")
	e.want("http://"+address+"/", http.StatusOK, proxyAccount+" at iis")
}
