package docs

import (
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
