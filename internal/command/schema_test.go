package command_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
)

// schema is as much of JSON Schema as docs/check.schema.json uses.
type schema struct {
	Type                 string
	Required             []string
	AdditionalProperties *bool
	Properties           map[string]*schema
	Items                *schema
	Enum                 []string
}

func readSchema(t *testing.T) *schema {
	t.Helper()
	content, err := os.ReadFile("../../docs/check.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	s := new(schema)
	if err := json.Unmarshal(content, s); err != nil {
		t.Fatal(err)
	}
	return s
}

// faults are where a value differs from the schema.
func (s *schema) faults(at string, value any) (faults []string) {
	if s.Enum != nil {
		if text, ok := value.(string); !ok || !slices.Contains(s.Enum, text) {
			return []string{fmt.Sprintf("%s: %v is none of %v", at, value, s.Enum)}
		}
		return nil
	}
	switch v := value.(type) {
	case map[string]any:
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				faults = append(faults, at+"."+name+" is missing")
			}
		}
		for name, member := range v {
			if s.Properties[name] == nil {
				faults = append(faults, at+"."+name+" is not in the schema")
			} else {
				faults = append(faults, s.Properties[name].faults(at+"."+name, member)...)
			}
		}
		return append(faults, s.wrongType(at, "object")...)
	case []any:
		for i, item := range v {
			faults = append(faults, s.Items.faults(fmt.Sprintf("%s[%d]", at, i), item)...)
		}
		return append(faults, s.wrongType(at, "array")...)
	case string:
		return s.wrongType(at, "string")
	case bool:
		return s.wrongType(at, "boolean")
	case float64:
		if v != math.Trunc(v) {
			return []string{at + " is no integer"}
		}
		return s.wrongType(at, "integer")
	default:
		return []string{fmt.Sprintf("%s: %T", at, value)}
	}
}

func (s *schema) wrongType(at, got string) []string {
	if s.Type == got {
		return nil
	}
	return []string{fmt.Sprintf("%s is of the type %s, not %s", at, got, s.Type)}
}

// validate fails unless a report of `check --json` is as the schema says.
func validate(t *testing.T, report string) {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(report), &value); err != nil {
		t.Fatal(err)
	}
	for _, fault := range readSchema(t).faults("report", value) {
		t.Error(fault)
	}
}

func TestCheckSchema(t *testing.T) {
	s := readSchema(t)
	causes := s.Properties["steps"].Items.Properties["causes"].Items.Enum
	for _, c := range diagnosis.Causes() {
		if !slices.Contains(causes, string(c)) {
			t.Errorf("the schema lacks the cause %s", c)
		}
	}
	if len(causes) != len(diagnosis.Causes()) {
		t.Errorf("%d causes, the code has %d", len(causes), len(diagnosis.Causes()))
	}
	for name, report := range map[string]any{
		"missing":   map[string]any{"ok": true},
		"unknown":   map[string]any{"version": "v1", "ok": true, "failures": 0.0, "warnings": 0.0, "steps": []any{}, "more": 1.0},
		"wrong":     map[string]any{"version": "v1", "ok": "yes", "failures": 0.0, "warnings": 0.0, "steps": []any{}},
		"bad cause": map[string]any{"version": "v1", "ok": true, "failures": 0.0, "warnings": 0.0, "steps": []any{map[string]any{"step": "login", "status": "ok", "text": "", "causes": []any{"magic"}}}},
	} {
		if len(s.faults("report", report)) == 0 {
			t.Errorf("%s: no fault is found", name)
		}
	}
}
