package metrics

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var (
	metricName = regexp.MustCompile(`caddy_(?:negotiate|kerberos)_\w+`)
	selector   = regexp.MustCompile(`(caddy_(?:negotiate|kerberos)_\w+)\{([^}]*)\}`)
	grouping   = regexp.MustCompile(`by \(([^)]*)\)`)
	expression = regexp.MustCompile(`(?m)^\s+(?:"(?:expr|query|definition)"|expr): (.+)$`)
)

// The dashboard and the alerts use metrics and labels that exist, and all of them.
func TestDashboardsUseDescriptions(t *testing.T) {
	labels := make(map[string][]string)
	for _, d := range Descriptions() {
		labels[d.Name] = append(slices.Clone(d.Labels), "le", "job", "instance")
	}
	used := make(map[string]bool)
	for file, queries := range grafanaQueries(t) {
		for _, query := range queries {
			names := metricName.FindAllString(query, -1)
			if len(names) == 0 {
				t.Errorf("%s: no metric in %q", file, query)
				continue
			}
			for _, name := range names {
				if used[family(name)] = true; labels[family(name)] == nil {
					t.Errorf("%s: no metric %s: %s", file, name, query)
				}
			}
			want := func(name, list string) {
				for label := range strings.SplitSeq(list, ",") {
					label, _, _ = strings.Cut(strings.TrimSpace(label), "=")
					if label = strings.TrimRight(label, "!~ "); label != "" && !slices.Contains(labels[family(name)], label) {
						t.Errorf("%s: %s has no label %s: %s", file, name, label, query)
					}
				}
			}
			for _, m := range selector.FindAllStringSubmatch(query, -1) {
				want(m[1], m[2])
			}
			for _, m := range grouping.FindAllStringSubmatch(query, -1) {
				want(names[0], m[1])
			}
		}
	}
	for name := range labels {
		if !used[name] {
			t.Errorf("no dashboard and no alert uses %s", name)
		}
	}
}

// family is a metric without what histograms append to its name.
func family(name string) string {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}

// grafanaQueries returns the PromQL expressions of the examples, by file.
func grafanaQueries(t *testing.T) map[string][]string {
	t.Helper()
	paths, err := filepath.Glob("../../examples/grafana/*.[jy]*")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]string)
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range expression.FindAllStringSubmatch(string(content), -1) {
			if strings.Contains(m[1], "caddy_") {
				all[path] = append(all[path], strings.ReplaceAll(m[1], `\"`, `"`))
			}
		}
	}
	if len(all) < 2 {
		t.Fatalf("only %d files with queries", len(all))
	}
	return all
}

// Several Caddys on one dashboard are told apart, and a quotient without requests is no data rather
// than NaN.
func TestDashboard_Instances(t *testing.T) {
	content, err := os.ReadFile("../../examples/grafana/caddy-negotiate.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr, LegendFormat string }
		}
		Templating struct{ List []struct{ Name string } }
	}
	if err := json.Unmarshal(content, &dashboard); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(dashboard.Templating.List, func(v struct{ Name string }) bool { return v.Name == "instance" }) {
		t.Error("no variable instance")
	}
	queries := 0
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			queries++
			if names, chosen := len(metricName.FindAllString(target.Expr, -1)), strings.Count(target.Expr, `{instance=~"$instance"`); names != chosen {
				t.Errorf("%s: %d of %d metrics are of the chosen instances: %s", panel.Title, chosen, names, target.Expr)
			}
			if panel.Type == "timeseries" && !strings.Contains(target.LegendFormat, "{{instance}}") {
				t.Errorf("%s: the legend %q does not name the instance", panel.Title, target.LegendFormat)
			}
			if by := grouping.FindStringSubmatch(target.Expr); panel.Type == "timeseries" && by != nil && !strings.Contains(by[1], "instance") {
				t.Errorf("%s: instances are added up: %s", panel.Title, target.Expr)
			}
			if quotient := strings.Contains(target.Expr, " / ") || strings.Contains(target.Expr, "histogram_quantile("); quotient && !strings.HasSuffix(target.Expr, " >= 0") {
				t.Errorf("%s: NaN while idle: %s", panel.Title, target.Expr)
			}
		}
	}
	if queries < 15 {
		t.Errorf("%d queries only", queries)
	}
}

// So are they in the alerts: each names the Caddy that it is about.
func TestAlerts_Instances(t *testing.T) {
	content, err := os.ReadFile("../../examples/grafana/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations struct{ Summary string }
			}
		}
	}
	if err := yaml.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	rules := 0
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			rules++
			if !strings.HasPrefix(rule.Annotations.Summary, "{{ $labels.instance }}: ") {
				t.Errorf("%s: the summary does not name the instance: %s", rule.Alert, rule.Annotations.Summary)
			}
			for _, by := range grouping.FindAllStringSubmatch(rule.Expr, -1) {
				if !strings.Contains(by[1], "instance") {
					t.Errorf("%s: instances are added up: %s", rule.Alert, rule.Expr)
				}
			}
			if strings.Contains(rule.Expr, "sum(") || strings.Contains(rule.Expr, "max(") || strings.Contains(rule.Expr, "min(") {
				t.Errorf("%s: instances are one: %s", rule.Alert, rule.Expr)
			}
		}
	}
	if rules < 10 {
		t.Errorf("%d rules only", rules)
	}
}
