package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// source is the root package, parsed: what the plugin shows to people stands there.
type source struct {
	files map[string]*ast.File
}

// readSource parses the package. edits replace text in files, as if somebody had
// changed them: file, old, new.
func readSource(t *testing.T, edits ...[3]string) *source {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatal("no source", err)
	}
	s := &source{files: make(map[string]*ast.File)}
	set := token.NewFileSet()
	for _, path := range names {
		name := filepath.Base(path)
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text := string(content)
		for _, e := range edits {
			if e[0] != name {
				continue
			}
			if !strings.Contains(text, e[1]) {
				t.Fatalf("%s does not say %q", name, e[1])
			}
			text = strings.ReplaceAll(text, e[1], e[2])
		}
		if s.files[name], err = parser.ParseFile(set, path, text, parser.ParseComments); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// each calls f for every function, with its name as in (*Type).name or name.
func (s *source) each(f func(name string, fn *ast.FuncDecl)) {
	for _, file := range s.files {
		for _, d := range file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := fn.Name.Name
			if fn.Recv != nil {
				of := fn.Recv.List[0].Type
				if star, ok := of.(*ast.StarExpr); ok {
					of = star.X
				}
				name = of.(*ast.Ident).Name + "." + name
			}
			f(name, fn)
		}
	}
}

// function finds one by that name.
func (s *source) function(name string) (found *ast.FuncDecl) {
	s.each(func(n string, fn *ast.FuncDecl) {
		if n == name {
			found = fn
		}
	})
	return found
}

// subdirectives are the keys of the tables that a function makes to parse blocks.
func (s *source) subdirectives(function string) (names []string) {
	fn := s.function(function)
	if fn == nil {
		return nil
	}
	ast.Inspect(fn, func(n ast.Node) bool {
		table, ok := n.(*ast.CompositeLit)
		if !ok || name(table.Type) != "block" {
			return true
		}
		for _, e := range table.Elts {
			names = append(names, text(e.(*ast.KeyValueExpr).Key))
		}
		return true
	})
	return names
}

// parsers are the functions that make such tables.
func (s *source) parsers() (names []string) {
	s.each(func(name string, _ *ast.FuncDecl) {
		if len(s.subdirectives(name)) > 0 {
			names = append(names, name)
		}
	})
	return names
}

// syntax gives the first words of the lines that a function's comment shows after
// "Syntax:", at whatever depth.
func (s *source) syntax(function string) (words []string) {
	fn := s.function(function)
	if fn == nil || fn.Doc == nil {
		return nil
	}
	_, shown, _ := strings.Cut(fn.Doc.Text(), "Syntax:")
	for line := range strings.SplitSeq(shown, "\n") {
		if word, _, _ := strings.Cut(strings.TrimSpace(line), " "); word != "" && strings.Trim(word, "#}.") != "" && word[0] != '#' {
			words = append(words, word)
		}
	}
	return words
}

// A metric as the code makes it.
type metric struct {
	kind   string
	labels []string
}

var makers = map[string]string{
	"NewCounterVec": "counter", "NewCounter": "counter", "NewGauge": "gauge", "NewGaugeVec": "gauge",
	"NewHistogram": "histogram", "NewHistogramVec": "histogram", "NewDesc": "gauge",
}

func (s *source) metrics() map[string]metric {
	found := make(map[string]metric)
	s.inspect(func(n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		if !ok || makers[name(call.Fun)] == "" {
			return
		}
		m := metric{kind: makers[name(call.Fun)]}
		metricName := text(call.Args[0])
		for _, arg := range call.Args {
			lit, ok := arg.(*ast.CompositeLit)
			if !ok {
				continue
			}
			for _, e := range lit.Elts {
				if pair, ok := e.(*ast.KeyValueExpr); !ok {
					m.labels = append(m.labels, text(e))
				} else if name(pair.Key) == "Name" {
					metricName = text(pair.Value)
				}
			}
		}
		found[metricName] = m
	})
	return found
}

// placeholders are the names below http.negotiate that the code knows.
func (s *source) placeholders() (names []string) {
	s.inspect(func(n ast.Node) {
		if lit, ok := n.(*ast.BasicLit); ok && strings.HasPrefix(text(lit), "http.negotiate.") {
			names = append(names, text(lit))
		}
	})
	return names
}

// constants are the values of the string constants whose names begin so.
func (s *source) constants(file, prefix string) map[string]string {
	found := make(map[string]string)
	for _, d := range s.files[file].Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST {
			continue
		}
		for _, spec := range decl.Specs {
			v := spec.(*ast.ValueSpec)
			for i, n := range v.Names {
				if strings.HasPrefix(n.Name, prefix) && i < len(v.Values) {
					found[n.Name] = text(v.Values[i])
				}
			}
		}
	}
	return found
}

// statuses are the pairs of HTTP status and error name that status.go makes of
// errors, by the names of the constants: either in a trouble{} or through a local
// function that makes one.
func (s *source) statuses() (pairs [][2]string) {
	makers := make(map[string]string) // local functions that take the name, and their status
	ast.Inspect(s.files["status.go"], func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			if name(n.Type) == "trouble" && len(n.Elts) == 3 && strings.HasPrefix(name(n.Elts[1]), "err") {
				pairs = append(pairs, [2]string{name(n.Elts[0]), name(n.Elts[1])})
			}
		case *ast.AssignStmt:
			if fn, ok := n.Rhs[0].(*ast.FuncLit); ok {
				ast.Inspect(fn, func(in ast.Node) bool {
					if lit, ok := in.(*ast.CompositeLit); ok && name(lit.Type) == "trouble" {
						makers[name(n.Lhs[0])] = name(lit.Elts[0])
					}
					return true
				})
			}
		case *ast.CallExpr:
			if status := makers[name(n.Fun)]; status != "" && strings.HasPrefix(name(n.Args[0]), "err") {
				pairs = append(pairs, [2]string{status, name(n.Args[0])})
			}
		}
		return true
	})
	return pairs
}

// codes are the Kerberos errors that status.go tells apart.
func (s *source) codes() (names []string) {
	ast.Inspect(s.files["status.go"], func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && name(sel.X) == "messages" && strings.Contains(sel.Sel.Name, "_ERR_") {
			names = append(names, sel.Sel.Name)
		}
		return true
	})
	return names
}

// fields are the JSON names of a struct, those of embedded ones included.
func (s *source) fields(of string) (names []string) {
	s.inspect(func(n ast.Node) {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != of {
			return
		}
		for _, f := range spec.Type.(*ast.StructType).Fields.List {
			if len(f.Names) == 0 {
				names = append(names, s.fields(name(f.Type))...)
				continue
			}
			if tag := jsonName(f); tag != "" {
				names = append(names, tag)
			}
		}
	})
	return names
}

func jsonName(f *ast.Field) string {
	if f.Tag == nil {
		return ""
	}
	tag, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
	return tag
}

// logFields are the names under which log.go logs.
func (s *source) logFields() (names []string) {
	ast.Inspect(s.files["log.go"], func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && len(call.Args) == 2 {
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok && name(sel.X) == "zap" && text(call.Args[0]) != "" {
				names = append(names, text(call.Args[0]))
			}
		}
		return true
	})
	return names
}

// routes are the admin endpoint's, as in "GET /kerberos/identities".
func (s *source) routes() (all []string) {
	ast.Inspect(s.files["admin.go"], func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		path, method := "", ""
		for _, e := range lit.Elts {
			pair, ok := e.(*ast.KeyValueExpr)
			if !ok {
				continue
			}
			switch name(pair.Key) {
			case "Pattern":
				path = text(pair.Value)
			case "Handler":
				if call, ok := pair.Value.(*ast.CallExpr); ok {
					method = strings.ToUpper(strings.TrimPrefix(name(call.Args[0]), "Method"))
				}
			}
		}
		if path != "" {
			all = append(all, method+" "+path)
		}
		return true
	})
	return all
}

// undocumented are the exported types, functions and JSON fields without a sentence.
func (s *source) undocumented() (faults []string) {
	want := func(what string, doc *ast.CommentGroup) {
		if doc == nil || !strings.HasSuffix(strings.TrimSpace(doc.Text()), ".") && !strings.Contains(doc.Text(), "\n\t") && !strings.Contains(doc.Text(), "|") {
			faults = append(faults, what+" has no comment that is a sentence")
		}
	}
	s.each(func(name string, fn *ast.FuncDecl) {
		if fn.Name.IsExported() && ast.IsExported(name) {
			want(name, fn.Doc)
		}
	})
	s.inspect(func(n ast.Node) {
		decl, ok := n.(*ast.GenDecl)
		if !ok || decl.Tok != token.TYPE {
			return
		}
		for _, spec := range decl.Specs {
			typ := spec.(*ast.TypeSpec)
			if !typ.Name.IsExported() {
				continue
			}
			doc := typ.Doc
			if doc == nil {
				doc = decl.Doc
			}
			want(typ.Name.Name, doc)
			fields, ok := typ.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range fields.Fields.List {
				if tag := jsonName(f); tag != "" {
					want(fmt.Sprintf("%s.%s (%s)", typ.Name.Name, f.Names[0].Name, tag), f.Doc)
				}
			}
		}
	})
	return faults
}

func (s *source) inspect(f func(ast.Node)) {
	for _, file := range s.files {
		ast.Inspect(file, func(n ast.Node) bool {
			f(n)
			return true
		})
	}
}

// name is the last part of an identifier.
func name(n ast.Expr) string {
	switch n := n.(type) {
	case *ast.Ident:
		return n.Name
	case *ast.SelectorExpr:
		return n.Sel.Name
	}
	return ""
}

// text is the value of a string in quotes.
func text(n ast.Expr) string {
	lit, ok := n.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	value, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return value
}
