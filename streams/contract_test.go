package streams_test

import (
	"testing"

	"github.com/paybell/paybell/streams/streamstest"
)

func TestContractMiniredis(t *testing.T) {
	streamstest.Suite(t, func(tb testing.TB) string {
		tb.Helper()
		return streamstest.Miniredis(tb).Addr()
	})
}

func TestContractRedis(t *testing.T) {
	streamstest.Suite(t, func(tb testing.TB) string {
		tb.Helper()
		return streamstest.Redis(tb).Addr()
	})
}
