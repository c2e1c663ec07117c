package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Caddy's website shows the comments of a module's JSON fields: each field and its type
// has one.
func TestReference_JSONFieldsHaveComments(t *testing.T) {
	checked := 0
	for _, folder := range []string{root, root + "/internal/config"} {
		files, err := filepath.Glob(folder + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				if decl, ok := d.(*ast.GenDecl); ok && decl.Tok == token.TYPE {
					for _, spec := range decl.Specs {
						checked += checkFields(t, spec.(*ast.TypeSpec), decl.Doc)
					}
				}
			}
		}
	}
	if checked < 40 {
		t.Errorf("%d fields only", checked)
	}
}

// checkFields counts the JSON fields of an exported struct.
func checkFields(t *testing.T, spec *ast.TypeSpec, doc *ast.CommentGroup) (n int) {
	t.Helper()
	s, ok := spec.Type.(*ast.StructType)
	if !ok || !spec.Name.IsExported() {
		return 0
	}
	for _, f := range s.Fields.List {
		if f.Tag == nil || len(f.Names) == 0 || reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json") == "" {
			continue
		}
		n++
		if f.Doc == nil || doc == nil {
			t.Errorf("%s.%s, or its type, has no comment", spec.Name, f.Names[0])
		}
	}
	return n
}
