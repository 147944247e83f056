package workers_test

import (
	"encoding/json"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(processEnv); spec != "" {
		var args [2]string
		err := json.Unmarshal([]byte(spec), &args)
		if err == nil {
			err = runProcess(args[0], args[1])
		}
		if err != nil {
			panic(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}
