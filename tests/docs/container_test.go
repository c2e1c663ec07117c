//go:build unix

package docs

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// staticCaddy is Caddy without cgo; tests/run has built it already.
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

// instruction is one of a Dockerfile.
type instruction struct{ name, args string }

// dockerfile returns the instructions of the last two stages: what builds, and the image.
func dockerfile(t *testing.T) (build, image []instruction) {
	t.Helper()
	text := strings.ReplaceAll(read(t, "examples/container/Dockerfile"), "\\\n", " ")
	for line := range strings.Lines(text) {
		name, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "", "#":
		case "FROM":
			build, image = image, []instruction{}
		default:
			image = append(image, instruction{name, strings.TrimSpace(args)})
		}
	}
	return build, image
}

// container is an image in a folder, in which programs are locked, and how it is run.
type container struct {
	t         *testing.T
	root      string
	env       []string
	run       []string // entry point and command
	uid, gid  uint32
	writeable []string
}

// newContainer makes the image as its stage of the Dockerfile says, with this binary as what was
// built. The folders of the host's certificates and of names are as a container's runtime has them.
func newContainer(t *testing.T, binary string) *container {
	t.Helper()
	_, image := dockerfile(t)
	c := &container{t: t, root: t.TempDir()}
	if err := os.Chmod(c.root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, i := range image {
		switch i.name {
		case "COPY":
			c.copy(strings.Fields(i.args), binary)
		case "ENV":
			c.env = append(c.env, strings.Fields(i.args)...)
		case "USER":
			if _, err := fmt.Sscanf(i.args, "%d:%d", &c.uid, &c.gid); err != nil {
				t.Fatalf("USER %s: %v", i.args, err)
			}
		case "ENTRYPOINT", "CMD":
			var words []string
			if err := json.Unmarshal([]byte(i.args), &words); err != nil {
				t.Fatalf("%s: %v", i.args, err)
			}
			c.run = append(c.run, words...)
		case "VOLUME":
			if err := json.Unmarshal([]byte(i.args), &c.writeable); err != nil {
				t.Fatalf("%s: %v", i.args, err)
			}
		case "LABEL", "EXPOSE":
		default:
			t.Fatalf("the test does not know %s", i.name)
		}
	}
	c.put("etc/hosts", []byte("127.0.0.1 localhost\n"), 0o644, 0)
	return c
}

// copy carries out COPY [--from=build] [--chown=UID:GID] SOURCE DESTINATION.
func (c *container) copy(words []string, binary string) {
	c.t.Helper()
	owner, built := 0, false
	for strings.HasPrefix(words[0], "--") {
		name, value, _ := strings.Cut(words[0], "=")
		switch name {
		case "--from":
			built = true
		case "--chown":
			uid, _, _ := strings.Cut(value, ":")
			owner, _ = strconv.Atoi(uid)
		default:
			c.t.Fatalf("the test does not know COPY %s", name)
		}
		words = words[1:]
	}
	source, destination := words[0], words[1]
	switch {
	case built && source == "/empty":
		if err := os.MkdirAll(filepath.Join(c.root, destination), 0o755); err != nil {
			c.t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(c.root, destination), owner, owner); err != nil {
			c.t.Fatal(err)
		}
		return
	case built && source == "/out/caddy":
		source = binary
	case built && strings.HasPrefix(source, "/etc/ssl/"):
		return // of the building image, which is not here
	case built:
		c.t.Fatalf("the test does not know what builds %s", source)
	default:
		source = filepath.Join(root, source)
	}
	content, err := os.ReadFile(source)
	if err != nil {
		c.t.Fatal(err)
	}
	mode := os.FileMode(0o644)
	if source == binary {
		mode = 0o755
	}
	c.put(destination, content, mode, owner)
}

func (c *container) put(path string, content []byte, mode os.FileMode, owner int) {
	c.t.Helper()
	path = filepath.Join(c.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, mode); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Chown(path, owner, owner); err != nil {
		c.t.Fatal(err)
	}
}

// edit changes a text file of the image: old and new text, by turns.
func (c *container) edit(path string, replace ...string) {
	c.t.Helper()
	content, err := os.ReadFile(filepath.Join(c.root, path))
	if err != nil {
		c.t.Fatal(err)
	}
	text := string(content)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			c.t.Fatalf("%s does not say %q", path, replace[i])
		}
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	c.put(path, []byte(text), 0o644, 0)
}

// command is a program that runs in the container, as its user.
func (c *container) command(env []string, words ...string) *exec.Cmd {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir, cmd.Env = "/", append(slices.Clone(c.env), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.root, Credential: &syscall.Credential{Uid: c.uid, Gid: c.gid}}
	return cmd
}

// start runs the container, and returns what it logs until it serves.
func (c *container) start(env ...string) string {
	c.t.Helper()
	cmd := c.command(env, c.run...)
	out, err := cmd.StderrPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return awaitLine(c.t, out, "serving initial configuration")
}

// The image holds nothing but Caddy, its configuration and the keytab, as the Dockerfile says: a
// user without rights runs it, who can write to its two folders only. What it holds can be asked
// from inside. In a long run the binary is the one that the Dockerfile builds.
func TestExample_Container(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("LEFT OUT: an empty container (chroot takes root)")
	}
	build := staticCaddy
	if caddytest.Long(0, 1) == 1 {
		build = buildAsDockerfile
	}
	binary := build(t)
	e := newEnv(t)
	iis := e.upstream("iis.corp.example", false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { host(r.Host).ServeHTTP(w, r) }))
	c := newContainer(t, binary)
	if c.uid == 0 || !slices.Equal(c.writeable, []string{"/data", "/config"}) {
		t.Errorf("user %d, writeable %s", c.uid, c.writeable)
	}
	address, metrics, admin := caddytest.FreeAddress(t), caddytest.FreeAddress(t), caddytest.FreeAddress(t)
	c.edit("etc/caddy/Caddyfile", "http://:8080", "http://"+address, "http://:9180", "http://"+metrics, "persist_config off", "persist_config off\n\tadmin "+admin)
	keys, err := os.ReadFile(e.folder.path + "/run/secrets/svc-proxy.keytab")
	if err != nil {
		t.Fatal(err)
	}
	c.put("run/secrets/svc-proxy.keytab", keys, 0o400, int(c.uid))
	log := c.start("KDC="+e.kdc.Addr(), "KERBEROS_USER="+proxyAccount, "SPN=HTTP/iis.corp.example", "UPSTREAM=http://"+iis.Addr())
	for line := range strings.Lines(log) {
		ours := strings.Contains(line, `"logger":"kerberos"`) || strings.Contains(line, "negotiate")
		if strings.Contains(line, `"level":"error"`) || ours && strings.Contains(line, `"level":"warn"`) {
			t.Errorf("it complains at its start: %s", line)
		}
	}
	e.want("http://"+address+"/", http.StatusOK, proxyAccount+" at "+iis.Addr())
	if a := e.get("http://" + metrics + "/"); !strings.Contains(a.Body, "caddy_kerberos_tickets{") {
		t.Errorf("metrics: %v", a)
	}
	for _, ask := range []struct{ command, want string }{{"identities", proxyAccount}, {"tickets", "HTTP/iis.corp.example"}, {"ready", "ready"}} {
		out, err := c.command(nil, c.run[0], "kerberos", ask.command, "--address", admin).CombinedOutput()
		if err != nil || !strings.Contains(string(out), ask.want) {
			t.Errorf("caddy kerberos %s: %v\n%s", ask.command, err, out)
		}
	}
}

// buildAsDockerfile runs what the Dockerfile runs to build, in a copy of the checkout, for the
// machine that this is. The module cache is enough: go mod download is left out.
func buildAsDockerfile(t *testing.T) string {
	t.Helper()
	build, _ := dockerfile(t)
	source, out := filepath.Join(t.TempDir(), "src"), t.TempDir()
	if text, err := exec.Command("git", "clone", "-q", "--no-hardlinks", root, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	platform, err := exec.Command("go", "env", "GOOS", "GOARCH").Output()
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(platform))
	env := append(os.Environ(), "TARGETOS="+words[0], "TARGETARCH="+words[1], "TARGETVARIANT=", "VERSION=v0.0.0-container", "COMMIT=1f2e3d")
	for _, i := range build {
		if i.name != "RUN" || i.args == "go mod download" {
			continue
		}
		cmd := exec.Command("sh", "-c", strings.NewReplacer("/out/", out+"/", "/empty", out+"/empty").Replace(i.args))
		cmd.Dir, cmd.Env = source, env
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("RUN %s: %v\n%s", i.args, err, text)
		}
	}
	binary := filepath.Join(out, "caddy")
	for command, want := range map[string]string{"kerberos version": "caddy-negotiate v0.0.0-container (commit 1f2e3d)", "list-modules --versions": "http.handlers.negotiate v0.0.0-container"} {
		text, err := exec.Command(binary, strings.Fields(command)...).CombinedOutput()
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("caddy %s: %v, no %q in\n%s", command, err, want, text)
		}
	}
	return binary
}
