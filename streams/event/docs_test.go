package event_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocsNameEveryConflict: a word that stands on an order has its section in
// docs/event.md, with an example and what a person should do.
func TestDocsNameEveryConflict(t *testing.T) {
	source, err := os.ReadFile("conflict.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/event.md")
	if err != nil {
		t.Fatal(err)
	}
	words := regexp.MustCompile(`Disagreement = "([a-z_]+)"`).FindAllSubmatch(source, -1)
	if len(words) < 12 {
		t.Fatalf("only %d words found", len(words))
	}
	for _, word := range append(words, [][]byte{nil, []byte("shared_reference")}) {
		_, section, found := strings.Cut(string(page), "\n### "+string(word[1])+"\n")
		section, _, _ = strings.Cut(section, "\n### ")
		if !found || !strings.Contains(section, "*Example:*") || !strings.Contains(section, "*Do:*") {
			t.Errorf("%s has no section with an example and what to do", word[1])
		}
	}
}
