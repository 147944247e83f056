package configs_test

import (
	"encoding"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/gateway/provider/catalog"
)

var update = flag.Bool("update", false, "rewrite the reference page")

const page = "paybell.example.yaml"

// TestReferenceIsCurrent fails when an option, its documentation or its default has
// changed and the page has not; -update rewrites it.
func TestReferenceIsCurrent(t *testing.T) {
	got := reference(t)
	if *update {
		if err := os.WriteFile(page, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Fatalf("%s is stale: run make reference", page)
	}
}

// TestReferenceLoads loads the page as it stands, and with every commented key too:
// an example that is refused is none.
func TestReferenceLoads(t *testing.T) {
	c, err := configs.Load(configs.Input{File: page})
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	if len(c.Accounts) != len(catalog.Names()) {
		t.Fatalf("%d accounts, want one for each of %v", len(c.Accounts), catalog.Names())
	}
}

// needed are values for keys that have no default and without which an account
// would be refused.
var needed = map[string]string{
	"streams.redis.address":                     `""`,
	"accounts.alipay.options.app_id":            `"2021000000000000"`,
	"accounts.alipay.options.public_keys":       "[\"file:/run/secrets/alipay_public_key\"]",
	"accounts.standardwebhooks.options.secrets": "[{file: /run/secrets/shop_webhooks}]",
	"accounts.stripe.options.secrets":           "[{file: /run/secrets/stripe_new}, {env: STRIPE_OLD, not_after: 2027-01-31T00:00:00Z}]",
	"accounts.wechatpay.options.mchid":          `"1900000001"`,
	"accounts.wechatpay.options.apiv3_keys":     "[{file: /run/secrets/wechatpay_apiv3}]",
	"accounts.wechatpay.options.public_keys":    "[{id: PUB_KEY_ID_0000000000000000000000000000, key: \"file:/run/secrets/wechatpay_public_key\"}]",
}

// reference renders every key of the configuration with its documentation.
func reference(t *testing.T) string {
	t.Helper()
	w := &writer{t: t, docs: map[string]map[string]string{}}
	w.line(0, "# Every key of paybell's configuration, with its default. Copy what you change.")
	w.line(0, "# Later wins: this file, the environment (PAYBELL_GATEWAY__ADDRESS sets")
	w.line(0, "# gateway.address), flags (--set gateway.address=127.0.0.1:8081). Secrets are read")
	w.line(0, "# from a file or an environment variable: {file: PATH} or {env: NAME}.")
	c := configs.Default()
	w.fields(0, "", reflect.ValueOf(c), "accounts")
	w.line(0, "")
	w.comment(0, strings.Replace(w.doc(reflect.TypeFor[configs.Config](), "Accounts"), "Accounts", "accounts", 1))
	w.line(0, "accounts:")
	for _, name := range catalog.Names() {
		entry, _ := catalog.Lookup(name)
		a := configs.Account{Provider: name, Namespace: "shop", DedupWindow: configs.DefaultDedupWindow(entry.Redelivery)}
		w.line(1, name+"-main:")
		w.fields(2, "accounts."+name, reflect.ValueOf(a), "options")
		w.line(2, "options:")
		w.fields(3, "accounts."+name+".options", reflect.ValueOf(entry.NewOptions()).Elem(), "")
	}
	return w.b.String()
}

// writer writes YAML with comments.
type writer struct {
	t    *testing.T
	b    strings.Builder
	docs map[string]map[string]string // package path → "Type.Field" → text
}

func (w *writer) line(depth int, text string) {
	if text = strings.TrimRight(text, " "); text != "" {
		w.b.WriteString(strings.Repeat("  ", depth) + text)
	}
	w.b.WriteByte('\n')
}

func (w *writer) comment(depth int, text string) {
	for l := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		if l != "" {
			w.line(depth, "# "+l)
		}
	}
}

// fields writes a struct's keys at a depth; except is left to the caller.
func (w *writer) fields(depth int, path string, v reflect.Value, except string) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if key == except || key == "" || key == "-" {
			continue
		}
		at := strings.TrimPrefix(path+"."+key, ".")
		if depth == 0 {
			w.line(0, "")
		}
		doc := w.doc(v.Type(), f.Name)
		if rest, ok := strings.CutPrefix(doc, f.Name+" "); ok {
			doc = key + " " + rest // Go begins with the field's name, a reader knows the key
		}
		w.comment(depth, doc)
		w.value(depth, at, key, v.Field(i))
	}
}

var textType = reflect.TypeFor[encoding.TextMarshaler]()

// value writes one key. What is unset, and has no value that an example needs, is
// shown behind a comment sign.
func (w *writer) value(depth int, path, key string, v reflect.Value) {
	if text, ok := needed[path]; ok {
		if strings.Contains(text, "\n") {
			w.line(depth, key+":")
			for l := range strings.SplitSeq(text, "\n") {
				w.line(depth+1, l)
			}
			return
		}
		w.line(depth, key+": "+text)
		return
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		w.line(depth, key+": "+short(time.Duration(v.Int())))
	case v.Type().Implements(textType):
		b, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		if err != nil {
			w.t.Fatalf("%s: %v", path, err)
		}
		w.line(depth, key+": "+strings.ToLower(string(b)))
	case v.Kind() == reflect.Struct && v.Type().Name() == "Source":
		w.line(depth, "# "+key+": {file: PATH}")
	case v.Kind() == reflect.Struct:
		w.line(depth, key+":")
		w.fields(depth+1, path, v, "")
	case v.Kind() == reflect.Map && v.Len() > 0:
		w.line(depth, key+":")
		iter := v.MapRange()
		rows := map[string]reflect.Value{}
		for iter.Next() {
			rows[iter.Key().String()] = iter.Value()
		}
		for _, k := range sorted(rows) {
			w.line(depth+1, k+":")
			w.fields(depth+2, path+"."+k, rows[k], "")
		}
	case v.Kind() == reflect.Slice && v.Len() > 0 && v.Type().Elem().Kind() == reflect.String:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = v.Index(i).String()
		}
		w.line(depth, key+": ["+strings.Join(items, ", ")+"]")
	case v.IsZero() && (v.Kind() == reflect.Slice || v.Kind() == reflect.Map || v.Kind() == reflect.String || v.Kind() == reflect.Pointer):
		w.line(depth, "# "+key+": "+map[reflect.Kind]string{reflect.Slice: "[]", reflect.Map: "{}"}[v.Kind()])
	case v.Kind() == reflect.String:
		w.line(depth, key+": "+quoted(v.String()))
	default:
		w.line(depth, fmt.Sprintf("%s: %v", key, v.Interface()))
	}
}

// short drops the zeros of a duration: 24h0m0s reads 24h.
func short(d time.Duration) string {
	s := d.String()
	s = strings.TrimSuffix(s, "m0s")
	if s != d.String() {
		s += "m"
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func quoted(s string) string {
	if _, err := strconv.ParseFloat(s, 64); err == nil || strings.ContainsAny(s, ":#{}[],&*!|>'\"%@` ") {
		return fmt.Sprintf("%q", s)
	}
	return s
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	for i := range keys {
		for j := i + 1; j < len(keys); j++ {
			if keys[j] < keys[i] {
				keys[i], keys[j] = keys[j], keys[i]
			}
		}
	}
	return keys
}

// doc is the comment of a field in the source of its package.
func (w *writer) doc(typ reflect.Type, field string) string {
	const module = "github.com/paybell/paybell/"
	pkg := typ.PkgPath()
	if w.docs[pkg] == nil {
		w.docs[pkg] = fieldDocs(w.t, filepath.Join("..", strings.TrimPrefix(pkg, module)))
	}
	return w.docs[pkg][typ.Name()+"."+field]
}

// fieldDocs reads the comments of every struct field of a package.
func fieldDocs(t *testing.T, dir string) map[string]string {
	t.Helper()
	docs := map[string]string{}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				group := "" // one comment may stand over several fields
				for _, field := range s.Fields.List {
					if field.Doc != nil {
						group = field.Doc.Text()
					}
					for _, name := range field.Names {
						docs[spec.Name.Name+"."+name.Name] = group
					}
					group = ""
				}
			}
			return true
		})
	}
	return docs
}
