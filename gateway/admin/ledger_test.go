package admin_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/paybell/paybell/gateway/admin"
	"github.com/paybell/paybell/streams"
)

// rings is a ledger in which one group has an alarm.
type rings struct{ alarm streams.Alarm }

func (r *rings) Read(context.Context) (map[string]streams.Account, error) {
	return map[string]streams.Account{"points": {Lost: 2, Again: 1, Alarm: r.alarm}}, nil
}

func (r *rings) Acknowledge(_ context.Context, group string) (streams.Alarm, error) {
	if group != "points" {
		return streams.Alarm{}, fmt.Errorf("%w: %q", streams.ErrUnknownGroup, group)
	}
	alarm := r.alarm
	r.alarm = streams.Alarm{}
	return alarm, nil
}

func TestAlarmOfTheLedgerIsAcknowledged(t *testing.T) {
	var logs bytes.Buffer
	a := newAdmin(t, admin.DefaultOptions(), func(d *admin.Deps) {
		d.Ledger, d.Logger = &rings{streams.Alarm{Lost: 2, Again: 1}}, slog.New(slog.NewTextHandler(&logs, nil))
	})
	status := func() streams.Alarm {
		return answer[admin.Status](t, ask(t, a, "GET", "/api/v1/status"), 200).Ledger["points"].Alarm
	}
	if got := status(); got != (streams.Alarm{Lost: 2, Again: 1}) {
		t.Errorf("the status says %+v", got)
	}
	const kind, body = "application/json", `{"because":"sent\nagain"}`
	got := answer[admin.Acknowledged](t, send(t, a, "/api/v1/ledger/points/acknowledge", body, "Content-Type", kind), 200)
	if got.Acknowledged != (streams.Alarm{Lost: 2, Again: 1}) || status() != (streams.Alarm{}) {
		t.Errorf("%+v, and then %+v", got, status())
	}
	if !strings.Contains(logs.String(), `group=points lost=2 again=1 because="sent again"`) {
		t.Errorf("logged:\n%s", logs.String())
	}
	for path, c := range map[string]struct {
		body string
		code int
	}{
		"nobody": {body, 404}, "points": {`{}`, 400},
	} {
		if w := send(t, a, "/api/v1/ledger/"+path+"/acknowledge", c.body, "Content-Type", kind); w.Code != c.code {
			t.Errorf("%s %s: %d", path, c.body, w.Code)
		}
	}
	a = newAdmin(t, admin.DefaultOptions(), func(d *admin.Deps) { d.Ledger = nil })
	if w := send(t, a, "/api/v1/ledger/points/acknowledge", body, "Content-Type", kind); w.Code != 501 {
		t.Errorf("without a ledger: %d", w.Code)
	}
}
