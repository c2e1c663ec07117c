package caddynegotiate

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

func TestTransportSuggestsWhatWasProbablyMeant(t *testing.T) {
	adapt := func(lines string) error {
		_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(proxyWith("negotiate intranet {\n"+lines+"\n}")), map[string]any{"filename": "Caddyfile"})
		return err
	}
	for _, c := range []struct{ name, lines, meant string }{
		{"ours", "mutual_auht on", "; did you mean mutual_auth?"},
		{"the transport's alone", "chanel_binding auto", "; did you mean channel_binding?"},
		{"of users", "impersonat {http.auth.user.id}", "; did you mean impersonate?"},
		{"http's", "kepalive 8s", "; did you mean keepalive?"},
		{"http's with a block", "tls_trust_pol file {\npem_file /ca.pem\n}", "; did you mean tls_trust_pool?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := adapt("compression off\n" + c.lines)
			if err == nil {
				t.Fatal("accepted")
			}
			name, _, _ := strings.Cut(c.lines, " ")
			for _, want := range []string{"unrecognized subdirective " + name, "Caddyfile:5", c.meant} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in %q", want, err)
				}
			}
		})
	}
	t.Run("nothing like it", func(t *testing.T) {
		err := adapt("nonsense 1")
		if err == nil || strings.Contains(err.Error(), "did you mean") || !strings.Contains(err.Error(), "unrecognized subdirective nonsense") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a wrong value", func(t *testing.T) {
		err := adapt("dial_timeout soon")
		if err == nil || strings.Contains(err.Error(), "did you mean") || !strings.Contains(err.Error(), "soon") {
			t.Errorf("got %v", err)
		}
	})
}

func TestSuggestionsKnowEverySubdirectiveOfTheHTTPTransport(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy").Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(out)), "caddyfile.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	read := subdirectivesRead(file, "HTTPTransport")
	if len(read) == 0 {
		t.Fatal("HTTPTransport.UnmarshalCaddyfile reads subdirectives in another way than by a switch")
	}
	for _, name := range read {
		if !slices.Contains(httpSubdirectives, name) {
			t.Errorf("Caddy reads %s, and httpSubdirectives lacks it", name)
		}
	}
	for _, name := range httpSubdirectives {
		if !slices.Contains(read, name) {
			t.Errorf("httpSubdirectives has %s, which Caddy does not read", name)
		}
	}
}

// subdirectivesRead lists the cases of the first switch in a type's UnmarshalCaddyfile.
func subdirectivesRead(file *ast.File, of string) []string {
	var names []string
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Name.Name != "UnmarshalCaddyfile" || f.Recv == nil {
			continue
		}
		star, ok := f.Recv.List[0].Type.(*ast.StarExpr)
		if !ok {
			continue
		}
		if id, ok := star.X.(*ast.Ident); !ok || id.Name != of {
			continue
		}
		ast.Inspect(f.Body, func(n ast.Node) bool {
			sw, ok := n.(*ast.SwitchStmt)
			if !ok {
				return true
			}
			for _, stmt := range sw.Body.List {
				for _, e := range stmt.(*ast.CaseClause).List {
					if lit, ok := e.(*ast.BasicLit); ok {
						name, _ := strconv.Unquote(lit.Value)
						names = append(names, name)
					}
				}
			}
			return false
		})
	}
	return names
}
