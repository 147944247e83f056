package main_test

import (
	"os/exec"
	"testing"
)

// TestLicensesAreCurrent: the file has the licences of the modules that the binary is
// built from now.
func TestLicensesAreCurrent(t *testing.T) {
	want, err := exec.CommandContext(t.Context(), "../../.ci/licenses.sh").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, "licenses.txt"); got != string(want) {
		t.Error("licenses.txt is not what .ci/licenses.sh writes now; run `make licenses`")
	}
}
