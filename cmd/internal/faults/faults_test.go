package faults_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestShippedBinaryHasNoFaults: what kills and breaks is in the suite's build alone.
func TestShippedBinaryHasNoFaults(t *testing.T) {
	deps := func(flags ...string) string {
		out, err := exec.CommandContext(t.Context(), "go", append(append([]string{"list"}, flags...), "-deps", "github.com/paybell/paybell/cmd/paybell")...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	const hooks = "paybell/cmd/internal/faults\n"
	if strings.Contains(deps(), hooks) {
		t.Error("paybell imports cmd/internal/faults without the build tag")
	}
	if !strings.Contains(deps("-tags", "faults"), hooks) {
		t.Error("the build for the fault suite does not import cmd/internal/faults")
	}
}
