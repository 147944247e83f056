package main_test

import (
	"errors"
	"net/http"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/paybell/paybell/streams/streamstest"
)

// TestInterruptEndsADrainAtOnce: who interrupts a process that drains does not want to
// wait for it. An orchestrator that asks again to end cuts nothing off.
func TestInterruptEndsADrainAtOnce(t *testing.T) {
	s := newStack(t, streamstest.Redis(t, streamstest.AOF("everysec")...).Addr(), "unused")
	p := s.startAt("gateway", freeAddress(t), "--set", "gateway.drain_delay=5m")
	ready := func() int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.gatewayURL+"/readyz", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.client.Do(req)
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := p.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	waitUntil(t, 20*time.Second, "the gateway is ready", func() bool { return ready() == http.StatusOK })
	signal(syscall.SIGTERM)
	waitUntil(t, 20*time.Second, "the gateway drains", func() bool { return ready() == http.StatusServiceUnavailable })
	for range 20 {
		signal(syscall.SIGTERM)
		if ready() != http.StatusServiceUnavailable {
			t.Fatal("the second SIGTERM ended it")
		}
	}
	signal(syscall.SIGINT)
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
			t.Errorf("ended with %v, want by the signal", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it still drains")
		if err := p.cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-ended
	}
}
