package gateway_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paybell/paybell/gateway"
)

func TestDeadlinesAreSharedForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of, start := gateway.Deadlines(3*time.Second), time.Now()
		caller, hangUp := context.WithCancel(t.Context())
		first := of(caller)
		hangUp() // the callback goes on without its sender
		<-time.After(9 * time.Millisecond)
		second := of(t.Context())
		<-time.After(time.Millisecond)
		third := of(t.Context())
		if first != second || second == third {
			t.Error("calls within 10 ms have one deadline, later ones another")
		}
		<-first.Done()
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("the first call had %s", took)
		}
		<-third.Done()
		if took := time.Since(start); took != 3010*time.Millisecond {
			t.Errorf("the third call's deadline came after %s", took)
		}
	})
}

func TestFirstPartEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of, start := gateway.FirstPart(), time.Now()
		whole, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		first := of(whole)
		if of(whole) != first {
			t.Error("callers with one context have one part of it")
		}
		<-first.Done()
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("the part took %s", took)
		}
		other, giveUp := context.WithTimeout(t.Context(), time.Minute)
		part := of(other)
		giveUp()
		<-part.Done()
		if unbounded := of(t.Context()); unbounded != t.Context() {
			t.Error("a caller without a deadline has none here")
		}
	})
}
