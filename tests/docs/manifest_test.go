package docs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// manifest is what the tests read of a Kubernetes object.
type manifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Data       map[string]string
	Spec       struct {
		Selector any
		Ports    []struct {
			TargetPort string `yaml:"targetPort"`
		}
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     struct {
				Containers []struct {
					Args  []string
					Ports []struct {
						Name          string
						ContainerPort int `yaml:"containerPort"`
					}
					VolumeMounts []struct {
						Name      string
						MountPath string `yaml:"mountPath"`
					} `yaml:"volumeMounts"`
				}
				Volumes []struct {
					Name      string
					ConfigMap struct{ Name string } `yaml:"configMap"`
					Secret    struct {
						SecretName string `yaml:"secretName"`
					}
				}
			}
		}
	}
}

// read gives a file of the repository.
func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(root + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func manifests(t *testing.T, path string) (all []manifest) {
	t.Helper()
	for d := yaml.NewDecoder(strings.NewReader(read(t, path))); ; {
		var m manifest
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, m)
	}
}

// The Caddyfile in the ConfigMap is checked with the others; here, that what it
// names is where the deployment puts it.
func TestKubernetesManifestHoldsTogether(t *testing.T) {
	const file = "examples/kubernetes/caddy.yaml"
	kinds := make(map[string]manifest)
	for _, m := range manifests(t, file) {
		kinds[m.Kind] = m
	}
	config, pod := kinds["ConfigMap"], kinds["Deployment"].Spec.Template.Spec
	if len(pod.Containers) != 1 || config.Data["Caddyfile"] == "" {
		t.Fatalf("%+v", kinds)
	}
	container := pod.Containers[0]
	mounted := make(map[string]string) // by what
	for _, v := range pod.Volumes {
		for _, m := range container.VolumeMounts {
			if m.Name == v.Name {
				mounted["configmap "+v.ConfigMap.Name+"secret "+v.Secret.SecretName] = m.MountPath
			}
		}
	}
	folder := mounted["configmap "+config.Metadata.Name+"secret "]
	if args := container.Args; !slices.Equal(args, []string{"run", "--config", folder + "/Caddyfile"}) {
		t.Errorf("%v, and the configuration is in %s", args, folder)
	}
	if !strings.Contains(config.Data["Caddyfile"], "keytab "+mounted["configmap secret svc-proxy"]+"/svc-proxy.keytab\n") {
		t.Errorf("the keytab is in none of %v", mounted)
	}
	if !strings.Contains(read(t, file), "kubectl create secret generic svc-proxy --from-file=svc-proxy.keytab\n") {
		t.Error("the file does not say how to make the secret")
	}
	service := kinds["Service"].Spec
	if len(service.Ports) != 1 || service.Ports[0].TargetPort != container.Ports[0].Name || container.Ports[0].ContainerPort != 8080 {
		t.Errorf("ports %+v and %+v", service.Ports, container.Ports)
	}
}

func TestPrometheusAsksCaddyForItsTargets(t *testing.T) {
	var config struct {
		ScrapeConfigs []struct {
			RelabelConfigs []struct {
				TargetLabel string `yaml:"target_label"`
				Replacement string
			} `yaml:"relabel_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "examples/prometheus/prometheus.yml")), &config); err != nil {
		t.Fatal(err)
	}
	labels := make(map[string]string)
	for _, r := range config.ScrapeConfigs[0].RelabelConfigs {
		labels[r.TargetLabel] = r.Replacement
	}
	if labels["__metrics_path__"] != "/$1/metrics" || !strings.Contains(read(t, "examples/prometheus/Caddyfile"), "http://"+labels["__address__"]+" {") {
		t.Errorf("%v", labels)
	}
}

func TestComposeFileAndDockerfileHoldTogether(t *testing.T) {
	var compose struct {
		Services map[string]struct {
			Build       struct{ Context, Dockerfile string }
			Environment map[string]string
			Secrets     []struct{ Source, Target string }
		}
		Secrets map[string]struct{ File string }
	}
	if err := yaml.Unmarshal([]byte(read(t, "examples/container/compose.yaml")), &compose); err != nil {
		t.Fatal(err)
	}
	caddy, config := compose.Services["caddy"], read(t, "examples/container/Caddyfile")
	if path.Clean("examples/container/"+caddy.Build.Context) != "." {
		t.Errorf("built in %s", caddy.Build.Context)
	}
	for _, s := range caddy.Secrets {
		if compose.Secrets[s.Source].File == "" || !strings.Contains(config, "keytab /run/secrets/"+s.Target+"\n") {
			t.Errorf("secret %+v", s)
		}
	}
	if len(caddy.Environment) != strings.Count(config, "{$") {
		t.Errorf("the Caddyfile asks for other variables than %v", caddy.Environment)
	}
	for name := range caddy.Environment {
		if !strings.Contains(config, "{$"+name+"}") {
			t.Errorf("nobody asks for %s", name)
		}
	}
	// What the Dockerfile copies out of the repository exists, and it builds what we build.
	file := read(t, caddy.Build.Dockerfile)
	for line := range strings.SplitSeq(file, "\n") {
		if words := strings.Fields(line); len(words) == 3 && words[0] == "COPY" && words[1] != "." {
			read(t, words[1])
		}
	}
	for _, want := range []string{"CGO_ENABLED=0 go build", "./cmd/caddy", "FROM scratch", "USER 65532", `"--config", "/etc/caddy/Caddyfile"`} {
		if !strings.Contains(file, want) {
			t.Errorf("the Dockerfile does not say %s", want)
		}
	}
}

func TestSystemdShowsCaddyTheKeytab(t *testing.T) {
	const unit = "examples/systemd/kerberos.conf"
	name := ""
	for line := range strings.SplitSeq(read(t, unit), "\n") {
		if value, ok := strings.CutPrefix(line, "LoadCredential="); ok {
			name, _, _ = strings.Cut(value, ":")
		}
	}
	if name == "" || !strings.Contains(read(t, "examples/systemd/Caddyfile"), "keytab {$CREDENTIALS_DIRECTORY}/"+name+"\n") {
		t.Errorf("the Caddyfile does not take the credential %q", name)
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return // what it would say beyond that is whether the drop-in parses
	}
	folder := t.TempDir()
	service := folder + "/caddy.service"
	content := "[Service]\nExecStart=/bin/true\n" + read(t, unit)
	if err := os.WriteFile(service, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", service).CombinedOutput(); err != nil || bytes.Contains(out, []byte(service)) {
		t.Errorf("%v\n%s", err, out)
	}
}
