package docs

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the repository, seen from here.
const root = "../.."

// A book is the documentation: texts by their path in the repository.
type book map[string]string

// A block is a piece of code in a page.
type block struct {
	page string
	line int
	lang string // of a fenced block
	text string
}

// readBook reads every Markdown page that a user may come to.
func readBook(t *testing.T) book {
	t.Helper()
	pages := make(book)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := slash(path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == "tests" || strings.HasPrefix(d.Name(), ".") && name != "."):
			return filepath.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		pages[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, must := range []string{"README.md", "xcaddy.md", "docs/directives.md", "docs/troubleshooting.md"} {
		if pages[must] == "" {
			t.Fatalf("there is no %s", must)
		}
	}
	return pages
}

func slash(path string) string {
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return path
	}
	return filepath.ToSlash(rel)
}

// with gives the book with one text replaced in one page, as if it had been edited.
func (b book) with(t *testing.T, page, old, text string) book {
	t.Helper()
	if !strings.Contains(b[page], old) {
		t.Fatalf("%s does not say %q", page, old)
	}
	edited := maps.Clone(b)
	edited[page] = strings.ReplaceAll(b[page], old, text)
	return edited
}

// blocks gives the fenced and the indented blocks of a page.
func (b book) blocks(page string) (all []block) {
	var current *block
	fenced, after := false, true // after an empty line, where an indented block may begin
	end := func() {
		if current != nil {
			all = append(all, *current)
		}
		current, fenced = nil, false
	}
	for i, line := range strings.Split(b[page], "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && fenced:
			end()
		case isFence:
			end()
			current, fenced = &block{page: page, line: i + 2, lang: fence}, true
		case fenced:
			current.text += line + "\n"
		case strings.HasPrefix(line, "    ") && (current != nil || after):
			if current == nil {
				current = &block{page: page, line: i + 1}
			}
			current.text += line[4:] + "\n"
		default:
			end()
		}
		after = strings.TrimSpace(line) == ""
	}
	end()
	return all
}

// section is the text under a heading, up to the next one of its rank or above;
// empty if there is none.
func (b book) section(page, heading string) string {
	rank := strings.IndexByte(heading, ' ')
	var out strings.Builder
	in := false
	for line := range strings.SplitAfterSeq(b[page], "\n") {
		if n := strings.IndexByte(line, ' '); strings.HasPrefix(line, "#") && strings.Trim(line[:n], "#") == "" && (!in || n <= rank) {
			in = strings.TrimSpace(line) == heading
			continue
		}
		if in {
			out.WriteString(line)
		}
	}
	return out.String()
}

// own is a section without those below it.
func (b book) own(page, heading string) string {
	text, _, _ := strings.Cut(b.section(page, heading), "\n#")
	return text
}

// rows gives the cells of the tables in a text, without heads and rules.
func rows(text string) (all [][]string) {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|--") || i+1 < len(lines) && strings.HasPrefix(lines[i+1], "|--") {
			continue
		}
		line = strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00")
		var cells []string
		for cell := range strings.SplitSeq(line, "|") {
			cells = append(cells, strings.TrimSpace(strings.ReplaceAll(cell, "\x00", "|")))
		}
		all = append(all, cells)
	}
	return all
}

var span = regexp.MustCompile("`([^`]+)`")

// spans returns the code in a text.
func spans(text string) (all []string) {
	for _, m := range span.FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// column returns the first words of the code in a column of the tables.
func column(text string, n int) []string {
	var all []string
	for _, cells := range rows(text) {
		if n >= len(cells) {
			continue
		}
		for _, code := range spans(cells[n]) {
			word, _, _ := strings.Cut(code, " ")
			all = append(all, word)
		}
	}
	return all
}
