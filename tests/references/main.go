// Command references counts, for each package of the product, how the files of the
// package refer to each other, and how many references run back up when the files
// are put in the order that makes the fewest do so.
//
// A reference is a pair of a file and a function, type, variable, constant or method
// that another file of the same package declares. Run it from the root of the module:
//
//	go run ./tests/references [-v] [-check] [package...]
//
// -v names the references that run back; -check fails if there are too many.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	verbose := flag.Bool("v", false, "name the references that run back")
	check := flag.Bool("check", false, fmt.Sprintf("fail if more than %d %% of all references run back, or more than %d %% in a package with at least %d",
		mostOfAll, mostOfPackage, fewReferences))
	flag.Parse()
	patterns := flag.Args()
	if len(patterns) == 0 {
		patterns = []string{".", "./internal/...", "./negotiate/...", "./krb5core/...", "./cache/..."}
	}
	if err := run(os.Stdout, patterns, *verbose, *check); err != nil {
		fmt.Fprintln(os.Stderr, "references:", err)
		os.Exit(1)
	}
}

// The bounds of -check: percentages, and the size of a package below which a
// percentage is not checked.
const (
	mostOfAll     = 10
	mostOfPackage = 15
	fewReferences = 20
)

// listed is the output of go list for a package.
type listed struct {
	Dir, ImportPath, Export string
	GoFiles                 []string
	DepOnly                 bool
}

func run(out io.Writer, patterns []string, verbose, check bool) error {
	packages, err := list(patterns)
	if err != nil {
		return err
	}
	exports := make(map[string]string)
	for _, p := range packages {
		exports[p.ImportPath] = p.Export
	}
	var (
		all, back int
		faults    []error
	)
	fmt.Fprintf(out, "%-42s %5s %6s %5s %5s\n", "package", "files", "lines", "refs", "back")
	for _, p := range packages {
		if p.DepOnly || len(p.GoFiles) == 0 {
			continue
		}
		g, err := graphOf(p, exports)
		if err != nil {
			return fmt.Errorf("%s: %w", p.ImportPath, err)
		}
		order := g.order()
		n, up := g.total(), g.upward(order)
		all, back = all+n, back+len(up)
		if n >= fewReferences && 100*len(up) > mostOfPackage*n {
			faults = append(faults, fmt.Errorf("%s: %d of %d references run back", p.ImportPath, len(up), n))
		}
		fmt.Fprintf(out, "%-42s %5d %6d %5d %5d %s\n", short(p.ImportPath), len(g.files), g.lines, n, len(up), percent(len(up), n))
		if verbose {
			for _, r := range up {
				fmt.Fprintf(out, "    %s uses %s of %s\n", r.from, r.name, r.to)
			}
		}
	}
	fmt.Fprintf(out, "%-42s %5s %6s %5d %5d %s\n", "all", "", "", all, back, percent(back, all))
	if 100*back > mostOfAll*all {
		faults = append(faults, fmt.Errorf("%d of all %d references run back", back, all))
	}
	if !check {
		return nil
	}
	return errors.Join(faults...)
}

func short(path string) string {
	if _, rest, ok := strings.Cut(path, "/caddy-negotiate/caddy-negotiate"); ok {
		return "." + rest
	}
	return path
}

func percent(part, whole int) string {
	if whole == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(whole))
}

func list(patterns []string) ([]listed, error) {
	cmd := exec.Command("go", append([]string{"list", "-deps", "-export", "-json=Dir,ImportPath,Export,GoFiles,DepOnly", "--"}, patterns...)...)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var packages []listed
	for d := json.NewDecoder(strings.NewReader(string(text))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
}

// reference is the use of a declaration in another file.
type reference struct{ from, to, name string }

// graph holds the references between the files of one package.
type graph struct {
	files []string
	lines int
	refs  map[reference]bool
}

// graphOf type-checks a package and collects its references.
func graphOf(p listed, exports map[string]string) (*graph, error) {
	g := &graph{refs: make(map[reference]bool)}
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		g.files = append(g.files, name)
		g.lines += set.File(f.Pos()).LineCount()
	}
	config := types.Config{Importer: importer.ForCompiler(set, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})}
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object), Selections: make(map[*ast.SelectorExpr]*types.Selection)}
	checked, err := config.Check(p.ImportPath, set, files, info)
	if err != nil {
		return nil, err
	}
	for id, object := range info.Uses {
		if name := declared(object, checked); name != "" {
			from, to := fileOf(set, id.Pos()), fileOf(set, object.Pos())
			if from != to {
				g.refs[reference{from, to, name}] = true
			}
		}
	}
	return g, nil
}

func fileOf(set *token.FileSet, pos token.Pos) string {
	return filepath.Base(set.Position(pos).Filename)
}

// declared returns the name of a package-level declaration or method of the package; ""
// for fields, local variables and declarations of other packages.
func declared(object types.Object, p *types.Package) string {
	if object.Pkg() != p {
		return ""
	}
	if f, ok := object.(*types.Func); ok {
		if f = f.Origin(); f.Signature().Recv() != nil {
			if types.IsInterface(f.Signature().Recv().Type()) {
				return ""
			}
			return receiver(f) + "." + f.Name()
		}
		return f.Name()
	}
	if object.Parent() != p.Scope() {
		return ""
	}
	return object.Name()
}

func receiver(f *types.Func) string {
	t := f.Signature().Recv().Type()
	if pointer, ok := t.(*types.Pointer); ok {
		t = pointer.Elem()
	}
	if named, ok := t.(*types.Named); ok {
		return named.Obj().Name()
	}
	return t.String()
}

func (g *graph) total() int { return len(g.refs) }

// upward returns the references that run back up in an order of the files.
func (g *graph) upward(order []string) []reference {
	place := make(map[string]int)
	for i, f := range order {
		place[f] = i
	}
	var up []reference
	for r := range g.refs {
		if place[r.to] < place[r.from] {
			up = append(up, r)
		}
	}
	slices.SortFunc(up, func(a, b reference) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to), cmp.Compare(a.name, b.name))
	})
	return up
}

// order returns the files in the order in which the fewest references run back up. Each strongly
// connected part is ordered by itself: exactly while it is small, else by moving
// single files as long as that helps.
func (g *graph) order() []string {
	weight := make(map[[2]string]int)
	for r := range g.refs {
		weight[[2]string{r.from, r.to}]++
	}
	var order []string
	for _, part := range components(g.files, weight) {
		order = append(order, arrange(part, weight)...)
	}
	return order
}

// components returns the strongly connected components of the files by Tarjan's
// algorithm; a component precedes those that it uses.
func components(files []string, weight map[[2]string]int) [][]string {
	var (
		parts   [][]string
		stack   []string
		index   = make(map[string]int)
		low     = make(map[string]int)
		onStack = make(map[string]bool)
		visit   func(f string)
	)
	visit = func(f string) {
		index[f] = len(index) + 1
		low[f] = index[f]
		stack, onStack[f] = append(stack, f), true
		for _, to := range files {
			if weight[[2]string{f, to}] == 0 {
				continue
			}
			if index[to] == 0 {
				visit(to)
				low[f] = min(low[f], low[to])
			} else if onStack[to] {
				low[f] = min(low[f], index[to])
			}
		}
		if low[f] != index[f] {
			return
		}
		at := slices.Index(stack, f)
		part := slices.Clone(stack[at:])
		for _, member := range part {
			onStack[member] = false
		}
		stack = stack[:at]
		parts = append(parts, part)
	}
	for _, f := range files {
		if index[f] == 0 {
			visit(f)
		}
	}
	slices.Reverse(parts) // found from the bottom up
	return parts
}

// exact is the size of the largest part that is ordered exactly, by 2^exact subsets.
const exact = 18

func arrange(part []string, weight map[[2]string]int) []string {
	if len(part) <= exact {
		return arrangeExactly(part, weight)
	}
	order := slices.Clone(part)
	cost := func(o []string) (sum int) {
		for i, above := range o {
			for _, below := range o[i+1:] {
				sum += weight[[2]string{below, above}]
			}
		}
		return sum
	}
	for best, better := cost(order), true; better; {
		better = false
		for i := range order {
			for j := range order {
				moved := slices.Insert(slices.Delete(slices.Clone(order), i, i+1), j, order[i])
				if c := cost(moved); c < best {
					order, best, better = moved, c, true
				}
			}
		}
	}
	return order
}

// arrangeExactly finds, for each subset of the files, the cheapest order that has them
// on top.
func arrangeExactly(part []string, weight map[[2]string]int) []string {
	n := len(part)
	up := make([][]int, n) // up[i][j]: references from i to j
	for i := range part {
		up[i] = make([]int, n)
		for j := range part {
			up[i][j] = weight[[2]string{part[i], part[j]}]
		}
	}
	cost, last := make([]int, 1<<n), make([]int8, 1<<n)
	for set := 1; set < 1<<n; set++ {
		cost[set] = -1
		for i := range n {
			if set&(1<<i) == 0 {
				continue
			}
			c := cost[set&^(1<<i)]
			for j := range n {
				if set&(1<<j) != 0 {
					c += up[i][j] // i is below j
				}
			}
			if cost[set] < 0 || c < cost[set] {
				cost[set], last[set] = c, int8(i)
			}
		}
	}
	order := make([]string, n)
	for set, at := 1<<n-1, n-1; set != 0; at-- {
		order[at] = part[last[set]]
		set &^= 1 << last[set]
	}
	return order
}
