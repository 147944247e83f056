package handlers_test

import (
	"os"
	"strings"
	"testing"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
)

// TestSchemaPage runs the questions of docs/schema.md, and looks for every table
// there is on the page.
func TestSchemaPage(t *testing.T) {
	text, err := os.ReadFile("../docs/schema.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	_, questions, found := strings.Cut(page, "```sql\n")
	questions, _, closed := strings.Cut(questions, "```")
	if !found || !closed {
		t.Fatal("docs/schema.md has no questions")
	}
	tables := map[effects.Dialect]string{
		effects.SQLite:   `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`,
		effects.Postgres: `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`,
	}
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		asked := 0
		for question := range strings.SplitSeq(questions, ";") {
			if strings.TrimSpace(question) == "" {
				continue
			}
			asked++
			if err := s.Query(t.Context(), func(effects.Row) error { return nil }, question); err != nil {
				t.Errorf("%s\n%v", strings.TrimSpace(question), err)
			}
		}
		if asked < 4 {
			t.Errorf("%d questions were asked", asked)
		}
		seen := 0
		err := s.Query(t.Context(), func(row effects.Row) error {
			var name string
			if err := row.Scan(&name); err != nil {
				return err
			}
			seen++
			if !strings.Contains(page, "`"+name+"`") {
				t.Errorf("table %s is not on the page", name)
			}
			return nil
		}, tables[s.Dialect()])
		if err != nil || seen < 10 {
			t.Errorf("%d tables, %v", seen, err)
		}
	})
}
