package configs_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/gateway/provider/stripe"
	"github.com/paybell/paybell/handlers/points"
)

const stripeAccount = "accounts: {s: {provider: stripe, options: {secrets: [{env: A}]"

// refused loads and returns the problems, which there must be.
func refused(t *testing.T, in configs.Input) string {
	t.Helper()
	_, err := configs.Load(in)
	if err == nil {
		t.Fatal("loaded")
	}
	return strings.Join(configs.Problems(err), "\n")
}

// TestNoValueIsRefused: a variable that is not set would otherwise be the default, and
// a gateway with real accounts would run on the embedded engine.
func TestNoValueIsRefused(t *testing.T) {
	redis := "streams: {redis: {address: 'redis:6379'}}\n"
	for name, c := range map[string]struct {
		in   configs.Input
		want string
	}{
		"variable":          {configs.Input{Environ: []string{"PAYBELL_STREAMS__REDIS__ADDRESS="}}, "PAYBELL_STREAMS__REDIS__ADDRESS: has no value"},
		"over the file's":   {configs.Input{File: file(t, redis), Environ: []string{"PAYBELL_STREAMS__REDIS__ADDRESS="}}, "PAYBELL_STREAMS__REDIS__ADDRESS: has no value"},
		"blanks":            {configs.Input{Environ: []string{"PAYBELL_DATABASE__POSTGRES__FILE=  "}}, "PAYBELL_DATABASE__POSTGRES__FILE: has no value"},
		"null":              {configs.Input{Environ: []string{"PAYBELL_INSTANCE=~"}}, "PAYBELL_INSTANCE: has no value"},
		"a comment":         {configs.Input{Environ: []string{"PAYBELL_STREAMS__PREFIX=#1"}}, "PAYBELL_STREAMS__PREFIX: has no value"},
		"a section":         {configs.Input{Environ: []string{"PAYBELL_STREAMS__REDIS="}}, "PAYBELL_STREAMS__REDIS: has no value"},
		"flag":              {configs.Input{Set: []string{"streams.redis.address="}}, "--set streams.redis.address: has no value"},
		"in a flag's map":   {configs.Input{Set: []string{"streams.redis={address: }"}}, "streams.redis.address: has no value"},
		"file":              {configs.Input{File: file(t, "streams:\n  redis:\n    address:\n")}, "streams.redis.address: has no value"},
		"file, a number":    {configs.Input{File: file(t, "gateway: {max_body: }\n")}, "gateway.max_body: has no value"},
		"file, a duration":  {configs.Input{File: file(t, "gateway: {read_timeout: null}\n")}, "gateway.read_timeout: has no value"},
		"file, a word":      {configs.Input{File: file(t, "log: {level: }\n")}, "log.level: has no value"},
		"file, in a list":   {configs.Input{File: file(t, "streams: {declared_groups: [a, ~]}\n")}, "streams.declared_groups[1]: has no value"},
		"file, in a map":    {configs.Input{File: file(t, "groups: {points: {award: {rules: {CNY: {points: 1, per: }}}}}\n")}, "groups.points.award.rules.CNY.per: has no value"},
		"file, a secret":    {configs.Input{File: file(t, "database: {postgres: {file: }}\n")}, "database.postgres.file: has no value"},
		"account":           {configs.Input{File: file(t, stripeAccount+"}, namespace: }}\n")}, "accounts.s.namespace: has no value"},
		"account's window":  {configs.Input{File: file(t, stripeAccount+"}, dedup_window: }}\n")}, "accounts.s.dedup_window: has no value"},
		"account's options": {configs.Input{File: file(t, stripeAccount+", tolerance: }}}\n")}, "accounts.s.options.tolerance: has no value"},
	} {
		t.Run(name, func(t *testing.T) {
			if text := refused(t, c.in); !strings.Contains(text, c.want) {
				t.Errorf("want %s in:\n%s", c.want, text)
			}
		})
	}
}

// TestSectionWithoutValueIsLeftOut: all of its keys may be behind comment signs.
func TestSectionWithoutValueIsLeftOut(t *testing.T) {
	want, err := configs.Load(configs.Input{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := configs.Load(configs.Input{
		File: file(t, "gateway:\nstreams: {redis: , declared_groups: }\nadmin: {token: }\ngroups: {points: {award: {rules: }}}\naccounts:\n"),
		Set:  []string{`streams.redis.address=""`},
	})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if _, err := configs.Load(configs.Input{File: file(t, "accounts: {w: {provider: standardwebhooks, options: {secrets: [{env: A}], live: }}}\n")}); err != nil {
		t.Errorf("a key that may be unset: %v", err)
	}
}

// TestGivenMapIsAllThereIs: what is given is not laid over the default.
func TestGivenMapIsAllThereIs(t *testing.T) {
	load := func(in configs.Input) *configs.Config {
		t.Helper()
		c, err := configs.Load(in)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := load(configs.Input{File: file(t, `groups: {points: {award: {rules: {CNY: {points: 2, per: "10.00"}}}}}`+"\n")})
	if want := map[string]points.Rule{"CNY": {Points: 2, Per: "10.00"}}; !reflect.DeepEqual(c.Groups.Points.Award.Rules, want) {
		t.Errorf("rules %v, want %v", c.Groups.Points.Award.Rules, want)
	}
	c = load(configs.Input{File: file(t, stripeAccount+", order_ref: [/data/object/id]}}}\n")})
	if got := c.Accounts["s"].Options.(*stripe.Options).OrderRef; !slices.Equal(got, []string{"/data/object/id"}) {
		t.Errorf("order_ref %v", got)
	}
	// Whatever map there is in the defaults can be emptied.
	maps := filledMaps("", reflect.ValueOf(configs.Default()))
	if len(maps) == 0 {
		t.Fatal("the defaults hold no map, so nothing is shown")
	}
	for _, key := range maps {
		c := load(configs.Input{Set: []string{key + "={}"}})
		if left := filledMaps("", reflect.ValueOf(*c)); slices.Contains(left, key) {
			t.Errorf("%s: {} left the default", key)
		}
		if left := filledMaps("", reflect.ValueOf(configs.Default())); !slices.Contains(left, key) {
			t.Errorf("%s: {} changed the default itself", key)
		}
	}
}

// filledMaps are the keys of the maps that have entries.
func filledMaps(path string, v reflect.Value) (keys []string) {
	switch v.Kind() {
	case reflect.Map:
		if v.Len() > 0 {
			keys = append(keys, path)
		}
	case reflect.Struct:
		for f := range v.Type().Fields() {
			if key, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); key != "" {
				keys = append(keys, filledMaps(strings.TrimPrefix(path+"."+key, "."), v.FieldByIndex(f.Index))...)
			}
		}
	}
	return keys
}

// TestNumbersArriveAsTheyAreWritten: a fraction is cut off nowhere.
func TestNumbersArriveAsTheyAreWritten(t *testing.T) {
	for key, want := range map[string]string{
		"groups.points.worker.max_age=24.0":     "write a duration with its unit, such as 24s",
		"groups.points.worker.max_age=1.5":      "write a duration with its unit, such as 1.5s",
		"groups.points.worker.max_age=0.0":      "write a duration with its unit, such as 0s",
		"groups.points.worker.max_age=5":        "write a duration with its unit, such as 5s",
		"groups.points.worker.attempts=1.5":     "write a whole number",
		"groups.points.worker.attempts=12.0":    "write a whole number",
		"gateway.max_body=1e5":                  "write a whole number",
		"gateway.max_body=18446744073709551615": "the number is too large",
		"groups.points.worker.max_age=87600h":   "",
		"groups.points.worker.max_age=0":        "",
	} {
		_, err := configs.Load(configs.Input{Set: []string{key}})
		path, _, _ := strings.Cut(key, "=")
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", key, err)
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), path+": "+want)):
			t.Errorf("%s: %v, want %s", key, err, want)
		}
	}
}

// TestRedisWithoutAddressIsRefused: who names a password or TLS means a server.
func TestRedisWithoutAddressIsRefused(t *testing.T) {
	for _, keys := range []string{
		"password: {file: x}", "username: u, password: {file: x}", "tls: {enabled: true}", "db: 3", "connections: 64", "read_timeout: 5s",
	} {
		if text := refused(t, configs.Input{File: file(t, "streams: {redis: {"+keys+"}}\n")}); !strings.Contains(text, "streams.redis.address: must be set") {
			t.Errorf("%s:\n%s", keys, text)
		}
		if _, err := configs.Load(configs.Input{File: file(t, "streams: {redis: {address: 'redis:6379', "+keys+"}}\n")}); err != nil {
			t.Errorf("%s with an address: %v", keys, err)
		}
	}
}

// TestDatabaseBesideRedisIsNamed: two workers that made up a file each would both
// make every effect.
func TestDatabaseBesideRedisIsNamed(t *testing.T) {
	off := []string{"groups.orderstatus.enabled=false", "groups.points.enabled=false", "groups.eventlog.enabled=false"}
	for name, c := range map[string]struct {
		set   []string
		named bool
	}{
		"embedded":               {nil, true},
		"redis":                  {[]string{"streams.redis.address=redis:6379"}, false},
		"redis without groups":   {append(off, "streams.redis.address=redis:6379"), true},
		"redis and a SQLite":     {[]string{"streams.redis.address=redis:6379", "database.sqlite=x.db"}, true},
		"redis and a PostgreSQL": {[]string{"streams.redis.address=redis:6379", "database.postgres.env=DSN"}, true},
	} {
		got, err := configs.Load(configs.Input{Set: c.set})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got.DatabaseNamed() != c.named {
			t.Errorf("%s: %+v", name, got.Database)
		}
	}
	if text := refused(t, configs.Input{Set: []string{"streams.redis.address=redis:6379", "database.retries=-1"}}); text != "database.retries: must be between 0 and 100" {
		t.Errorf("without a database the other keys of it are checked, too:\n%s", text)
	}
}
