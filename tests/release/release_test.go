//go:build linux

package release

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

func TestMain(m *testing.M) { caddytest.Main(m) }

// run runs a program and returns what it prints.
func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// snapshot makes a release in a new clone, without network: the module cache has the modules, and
// nothing is published. It returns the folder with the files.
func snapshot(t *testing.T) string {
	t.Helper()
	clone := filepath.Join(t.TempDir(), "clone")
	run(t, exec.Command("git", "clone", "-q", "../..", clone))
	cmd := exec.Command("packaging/release", "--snapshot")
	cmd.Dir, cmd.Env = clone, append(os.Environ(), "GOPROXY=off", "GOFLAGS=", "CGO_ENABLED=0")
	t.Logf("%s", run(t, cmd))
	return filepath.Join(clone, "dist")
}

// published are the endings of the files that a release has, after its name and version.
func published() []string {
	all := []string{"darwin_amd64.tar.gz", "darwin_arm64.tar.gz", "freebsd_amd64.tar.gz", "freebsd_arm64.tar.gz", "windows_amd64.zip", "windows_arm64.zip"}
	for _, arch := range []string{"amd64", "arm64", "armv7", "386"} {
		all = append(all, "linux_"+arch+".tar.gz", "linux_"+arch+".deb", "linux_"+arch+".rpm")
	}
	for _, name := range slices.Clone(all) {
		if system, _, ok := strings.Cut(name, ".tar.gz"); ok {
			all = append(all, strings.TrimSuffix(system, "v7")+".cdx.json")
		} else if system, ok := strings.CutSuffix(name, ".zip"); ok {
			all = append(all, system+".cdx.json")
		}
	}
	return all
}

// Two builds of one commit, in different folders, are the same bytes.
func TestRelease(t *testing.T) {
	if caddytest.Long(0, 1) == 0 {
		t.Skip("it compiles Caddy for ten systems: tests/run -long")
	}
	dist := snapshot(t)
	sums := read(t, dist, "checksums.txt")
	if again := read(t, snapshot(t), "checksums.txt"); again != sums {
		t.Errorf("a second build differs:\n%s\n%s", sums, again)
	}
	lines := strings.Split(strings.TrimSpace(sums), "\n")
	for _, ending := range published() {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasSuffix(line, "_"+ending) }) {
			t.Errorf("no file ends in %s", ending)
		}
	}
	if len(lines) != len(published()) {
		t.Errorf("%d files, want %d:\n%s", len(lines), len(published()), sums)
	}
	for _, path := range glob(t, dist, "*.cdx.json") {
		checkSBOM(t, path)
	}
	t.Run("a new Debian", func(t *testing.T) { debian(t, glob(t, dist, "*_linux_amd64.deb")[0]) })
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func glob(t *testing.T, path ...string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(path...))
	if err != nil || len(found) == 0 {
		t.Fatalf("no %v: %v", path, err)
	}
	return found
}

// checkSBOM fails unless a list of components has the plugin, Caddy and Go's library, and knows
// nothing of the machine that it was made on.
func checkSBOM(t *testing.T, path string) {
	t.Helper()
	var sbom struct {
		BOMFormat  string `json:"bomFormat"`
		Components []struct{ Name, Version, PURL string }
	}
	text := read(t, path)
	if err := json.Unmarshal([]byte(text), &sbom); err != nil || sbom.BOMFormat != "CycloneDX" {
		t.Fatalf("%s: %v, format %q", path, err, sbom.BOMFormat)
	}
	for _, name := range []string{"github.com/caddy-negotiate/caddy-negotiate", "github.com/caddyserver/caddy/v2", "std"} {
		if !slices.ContainsFunc(sbom.Components, func(c struct{ Name, Version, PURL string }) bool { return c.Name == name && c.Version != "" }) {
			t.Errorf("%s does not have %s with its version, of %d components", path, name, len(sbom.Components))
		}
	}
	if strings.Contains(text, os.TempDir()) || strings.Contains(text, "timestamp") {
		t.Errorf("%s is of one machine and one time", path)
	}
}

// debian installs the package in a new Debian, as an administrator would, and runs what it has
// installed: its own configuration, then the example of the container, which logs in.
func debian(t *testing.T, deb string) {
	lab.Require(t, lab.Debootstrap)
	root := t.TempDir()
	run(t, exec.Command("debootstrap", "--variant=minbase", "bookworm", root))
	install := filepath.Join(root, "package.deb")
	if err := os.WriteFile(install, []byte(read(t, deb)), 0o644); err != nil {
		t.Fatal(err)
	}
	inside := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: root}
		return cmd
	}
	t.Logf("%s", run(t, inside("/usr/bin/dpkg", "--install", "/package.deb")))
	for command, want := range map[string]string{"kerberos version": "caddy-negotiate v0.0.0-", "list-modules --versions": "http.handlers.negotiate v0.0.0-", "validate --config /etc/caddy/Caddyfile": "Valid configuration"} {
		if text := run(t, inside("/usr/bin/caddy", strings.Fields(command)...)); !strings.Contains(text, want) {
			t.Errorf("caddy %s: no %q in\n%s", command, want, text)
		}
	}
	if unit := read(t, root, "usr/lib/systemd/system/caddy.service"); !strings.Contains(unit, "\nUser=caddy\n") || !strings.Contains(run(t, inside("/usr/bin/getent", "passwd", "caddy")), ":/var/lib/caddy:/usr/sbin/nologin") {
		t.Errorf("the unit's user:\n%s", unit)
	}

	address := caddytest.FreeAddress(t)
	serve(t, root, "package", strings.ReplaceAll(read(t, root, "etc/caddy/Caddyfile"), "\n:80 {", "\nhttp://"+address+" {"))
	if a := caddytest.Do(t, caddytest.Request(t, http.MethodGet, "http://"+address+"/")); a.Status != 200 || !strings.Contains(a.Body, "/etc/caddy/Caddyfile") {
		t.Errorf("the package's configuration: %v", a)
	}

	e := caddytest.NewEnv(t, caddytest.Options{})
	kept := filepath.Join(root, "run/secrets/svc-proxy.keytab")
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kept, e.KeysOf(e.Proxy), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, inside("/usr/bin/chown", "caddy:caddy", "/run/secrets/svc-proxy.keytab"))
	example := strings.NewReplacer("http://:8080", "http://"+e.Addr, "http://:9180", "http://"+caddytest.FreeAddress(t),
		"{$UPSTREAM}", e.Upstream.Addr(), "{$KDC}", e.KDC.Addr(), "{$KERBEROS_USER}", caddytest.Principal, "{$SPN}", caddytest.Service)
	serve(t, root, "example", example.Replace(read(t, "../../examples/container/Caddyfile")))
	e.Get("/").WantUser(t, caddytest.Principal)

	t.Logf("%s", run(t, inside("/usr/bin/dpkg", "--remove", "caddy-negotiate")))
	if _, err := os.Stat(filepath.Join(root, "usr/bin/caddy")); err == nil {
		t.Error("the package leaves its program behind")
	}
}

// serve runs the installed Caddy with a configuration, as the package's user, until the test ends.
func serve(t *testing.T, root, name, config string) {
	t.Helper()
	path := "/etc/caddy/" + name + ".caddyfile"
	admin := caddytest.FreeAddress(t)
	if before, after, ok := strings.Cut(config, "\tpersist_config off\n"); ok {
		config = before + "\tpersist_config off\n\tadmin " + admin + "\n" + after
	} else {
		config = "{\n\tadmin " + admin + "\n}\n" + config
	}
	if err := os.WriteFile(root+path, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/chroot", "--userspec=caddy:caddy", root, "/usr/bin/env", "-i", "HOME=/var/lib/caddy", "/usr/bin/caddy", "run", "--config", path)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s", &log)
		}
	})
	caddytest.WaitFor(t, name+" is served", func() bool {
		return exec.Command("/usr/sbin/chroot", "--userspec=caddy:caddy", root, "/usr/bin/caddy", "kerberos", "identities", "--address", admin).Run() == nil
	})
}
