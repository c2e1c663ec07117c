package docs

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// linkFaults are links within the repository that lead nowhere.
func linkFaults(b book) (faults []string) {
	for page, text := range b {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			file, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(file, "://") {
				continue
			}
			target := page
			if file != "" {
				target = path.Join(path.Dir(page), file)
			}
			if _, err := os.Stat(root + "/" + target); err != nil {
				faults = append(faults, fmt.Sprintf("%s: %s does not exist", page, m[1]))
			} else if anchor != "" && !hasHeading(b[target], anchor) {
				faults = append(faults, fmt.Sprintf("%s: %s has no heading %s", page, target, anchor))
			}
		}
	}
	return faults
}

var goFile = regexp.MustCompile(`[a-z0-9_][a-z0-9_/]*\.go\b`)

// Go files that pages name exist.
func TestLinks_GoFilesExist(t *testing.T) {
	b := readBook(t)
	for _, page := range []string{"README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/troubleshooting.md"} {
		names := goFile.FindAllString(b[page], -1)
		for _, name := range names {
			if !exists(name) {
				t.Errorf("%s names %s, which does not exist", page, name)
			}
		}
	}
}

var pageName = regexp.MustCompile(`\b(?:docs/)?[A-Za-z_-]+\.md\b`)

// Pages that programs name, in their help for example, exist.
func TestLinks_ProgramsNameExistingPages(t *testing.T) {
	faults := func(text string) (faults []string) {
		for _, name := range pageName.FindAllString(text, -1) {
			if _, err := os.Stat(root + "/" + name); err != nil {
				faults = append(faults, name+" does not exist")
			}
		}
		return faults
	}
	for name, cmd := range leaves(kerberosCommand(), "") {
		var out bytes.Buffer
		cmd.SetOut(&out)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		if !pageName.MatchString(out.String()) {
			t.Errorf("the help of %s names no page:\n%s", name, &out)
		}
		for _, fault := range faults(out.String()) {
			t.Errorf("help of %s: %s", name, fault)
		}
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.Contains(filepath.ToSlash(path), "/tests/") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, fault := range faults(string(text)) {
			t.Errorf("%s: %s", slash(path), fault)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := faults("see docs/nowhere.md"); len(got) != 1 {
		t.Errorf("a page that does not exist: %q", got)
	}
}

// exists reports whether a Go file is anywhere in the repository, by its name or by the
// end of its path.
func exists(name string) bool {
	found := false
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		found = found || err == nil && !d.IsDir() && strings.HasSuffix(filepath.ToSlash(path), "/"+name)
		return err
	})
	return found
}

var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

func hasHeading(text, anchor string) bool {
	for line := range strings.SplitSeq(text, "\n") {
		if title := strings.TrimLeft(line, "#"); title != line &&
			strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}

func TestLinks_Exist(t *testing.T) {
	b := readBook(t)
	for _, fault := range linkFaults(b) {
		t.Error(fault)
	}
	for text, want := range map[string]string{"[x](nowhere.md)": "does not exist", "[x](iis.md#nothing)": "no heading nothing", "[x](#nothing)": "no heading"} {
		altered := b.with(t, "docs/architecture.md", "# Architecture", "# Architecture\n\n"+text)
		if got := linkFaults(altered); !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("%s: faults %q", text, got)
		}
	}
}

// Every page is found from the README in two steps.
func TestLinks_ReadmeLeadsToAllPages(t *testing.T) {
	b := readBook(t)
	to := func(page string) (all []string) {
		for _, m := range link.FindAllStringSubmatch(b[page], -1) {
			file, _, _ := strings.Cut(m[1], "#")
			all = append(all, path.Join(path.Dir(page), file))
		}
		return all
	}
	reached, next := map[string]bool{"README.md": true}, []string{"README.md"}
	for range 2 {
		var further []string
		for _, page := range next {
			for _, target := range to(page) {
				if !reached[target] {
					reached[target], further = true, append(further, target)
				}
			}
		}
		next = further
	}
	for page := range b {
		if strings.HasPrefix(page, "docs/") && !reached[page] {
			t.Errorf("%s is not reached from the README in two steps", page)
		}
	}
	if n := strings.Count(b["README.md"], "\n"); n > 70 {
		t.Errorf("the README has %d lines: more than a screen", n)
	}
}

var testName = regexp.MustCompile("`(Test[A-Z][A-Za-z0-9_]*)`")

// Each cell of SECURITY.md's table of attackers names a test that holds it, and exists.
func TestLinks_AttackersAreTested(t *testing.T) {
	all := testNames(t)
	faults := func(text string) (faults []string) {
		_, table, _ := strings.Cut(text, "## Who can do what\n")
		table, _, _ = strings.Cut(table, "\n## ")
		rows := 0
		for line := range strings.SplitSeq(table, "\n") {
			if !strings.HasPrefix(line, "| **") {
				continue
			}
			rows++
			for _, cell := range strings.Split(strings.Trim(line, "| "), " | ")[1:] {
				if !testName.MatchString(cell) {
					faults = append(faults, "no test holds: "+cell)
				}
			}
		}
		if rows < 7 {
			faults = append(faults, fmt.Sprintf("%d rows", rows))
		}
		for _, m := range testName.FindAllStringSubmatch(text, -1) {
			if !all[m[1]] {
				faults = append(faults, m[1]+" does not exist")
			}
		}
		return faults
	}
	page := readBook(t)["SECURITY.md"]
	for _, fault := range faults(page) {
		t.Error(fault)
	}
	if got := faults(strings.ReplaceAll(page, "`TestHygiene_TRACE`", "`TestNothing`")); len(got) != 1 {
		t.Errorf("a test that does not exist: %q", got)
	}
}

var testFunc = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(`)

// testNames has the name of every test of the repository.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllSubmatch(text, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
