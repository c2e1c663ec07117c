package docs

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

// keytabs are the paths of keytabs in a Caddyfile.
var keytabs = regexp.MustCompile(`(?m)^\s+keytab (\S+)$`)

// The Caddyfile in the ConfigMap is run by TestExample_Kubernetes; here, its keytab is where
// the deployment mounts the secret, and Caddy reads it from where the ConfigMap is mounted.
func TestManifest_KubernetesMounts(t *testing.T) {
	var deployment struct {
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct {
						Args           []string
						ReadinessProbe struct{ Exec struct{ Command []string } } `yaml:"readinessProbe"`
						LivenessProbe  struct {
							HTTPGet struct{ Path string } `yaml:"httpGet"`
						} `yaml:"livenessProbe"`
						VolumeMounts []struct {
							Name string
							Path string `yaml:"mountPath"`
						} `yaml:"volumeMounts"`
					}
					Volumes []map[string]any
				}
			}
		}
	}
	text := read(t, "examples/kubernetes/caddy.yaml")
	text = text[strings.Index(text, "kind: Deployment"):]
	text, _, _ = strings.Cut(text, "\n---")
	if err := yaml.Unmarshal([]byte(text), &deployment); err != nil {
		t.Fatal(err)
	}
	pod := deployment.Spec.Template.Spec
	mounted := make(map[string]string) // by the kind of the volume
	for _, m := range pod.Containers[0].VolumeMounts {
		for _, v := range pod.Volumes {
			for kind := range v {
				if v["name"] == m.Name {
					mounted[kind] = m.Path
				}
			}
		}
	}
	if got := fmt.Sprint(pod.Containers[0].Args); mounted["configMap"] == "" || !strings.Contains(got, mounted["configMap"]+"/Caddyfile") {
		t.Errorf("Caddy is run with %s, mounted: %v", got, mounted)
	}
	if mounted["emptyDir"] != "/data" {
		t.Errorf("Caddy cannot write to /data: %v", mounted)
	}
	probe := pod.Containers[0].ReadinessProbe.Exec.Command
	if err := checkCommand(strings.Join(probe, " ")); len(probe) == 0 || err != nil {
		t.Errorf("readiness: %q: %v", probe, err)
	}
	if path := pod.Containers[0].LivenessProbe.HTTPGet.Path; path == "" || !strings.Contains(kubernetesCaddyfile(t), "respond "+path+" 200\n") {
		t.Errorf("liveness: %q", path)
	}
	for _, m := range keytabs.FindAllStringSubmatch(kubernetesCaddyfile(t), -1) {
		if filepath.Dir(m[1]) != mounted["secret"] {
			t.Errorf("keytab %s, mounted: %v", m[1], mounted)
		}
	}
}

// Compose passes the variables and the secrets that the Caddyfile asks for.
func TestManifest_Compose(t *testing.T) {
	var compose struct {
		Services map[string]struct {
			Environment map[string]string
			Secrets     []struct{ Target string }
			Healthcheck struct{ Test []string }
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "examples/container/compose.yaml")), &compose); err != nil {
		t.Fatal(err)
	}
	caddy, config := compose.Services["caddy"], read(t, "examples/container/Caddyfile")
	if probe := caddy.Healthcheck.Test; len(probe) == 0 || probe[0] != "CMD" || checkCommand(strings.Join(probe[1:], " ")) != nil {
		t.Errorf("health check %q", probe)
	}
	if _, err := fillIn(config, caddy.Environment); err != nil || len(caddy.Environment) == 0 {
		t.Errorf("environment %v: %v", caddy.Environment, err)
	}
	for _, m := range keytabs.FindAllStringSubmatch(config, -1) {
		if len(caddy.Secrets) != 1 || m[1] != "/run/secrets/"+caddy.Secrets[0].Target {
			t.Errorf("keytab %s, secrets %v", m[1], caddy.Secrets)
		}
	}
}

// systemd hands the credential to Caddy that the Caddyfile reads, and accepts the drop-in.
func TestManifest_Systemd(t *testing.T) {
	unit := read(t, "examples/systemd/kerberos.conf")
	credential := regexp.MustCompile(`(?m)^LoadCredential=([^:]+):`).FindStringSubmatch(unit)
	if credential == nil || !strings.Contains(read(t, "examples/systemd/Caddyfile"), "keytab {$CREDENTIALS_DIRECTORY}/"+credential[1]+"\n") {
		t.Errorf("the Caddyfile does not read the credential %q", credential)
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return // it would say whether systemd can parse the drop-in
	}
	service := caddytest.WriteFile(t, filepath.Join(t.TempDir(), "caddy.service"), []byte("[Service]\nExecStart=/bin/true\n"+unit))
	if out, err := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", service).CombinedOutput(); err != nil || bytes.Contains(out, []byte(service)) {
		t.Errorf("%v\n%s", err, out)
	}
}

// Prometheus asks the site of the example's Caddyfile, by paths that it serves.
func TestManifest_Prometheus(t *testing.T) {
	text := read(t, "examples/prometheus/prometheus.yml")
	address := regexp.MustCompile(`target_label: __address__\n\s+replacement: (\S+)`).FindStringSubmatch(text)
	if address == nil || !strings.Contains(read(t, "examples/prometheus/Caddyfile"), "http://"+address[1]+" {") || !strings.Contains(text, "/$1/metrics") {
		t.Errorf("Prometheus asks %q", address)
	}
}
