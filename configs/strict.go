package configs

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
)

// strict decodes raw into out. It refuses keys that out does not have, keys without
// a value, and numbers that would not arrive as they were written.
func strict(path string, raw any, out any) error {
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		TagName: "yaml",
		Result:  out,
		// A map or list that is given is all there is of it: without this it would be
		// laid over the default's.
		ZeroFields: true,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(
			refuseBareDuration,
			refuseInexactInteger,
			refuseBareDecimal,
			mapstructure.StringToTimeDurationHookFunc(),
			mapstructure.TextUnmarshallerHookFunc(),
		),
		MatchName: func(key, field string) bool { return key == field },
	})
	if err != nil {
		return fmt.Errorf("decode configuration: %w", err)
	}
	// The decoder tells of unknown keys only where everything else is right.
	problems := misfits(path, raw, reflect.TypeOf(out))
	for _, p := range decodeErrors(d.Decode(given(raw))) {
		problems = append(problems, fmt.Errorf("%s: %w", join(path, p.Name()), p.Unwrap()))
	}
	return errors.Join(problems...)
}

// misfits lists the keys of raw that a type has no field for, and those that have no
// value where the type wants one. A section without a value is one that is left out.
func misfits(path string, raw any, t reflect.Type) []error {
	for t.Kind() == reflect.Pointer {
		if raw == nil {
			return nil // nothing is what a pointer may be
		}
		t = t.Elem()
	}
	var problems []error
	switch v := raw.(type) {
	case nil:
		if scalar(t) {
			problems = append(problems, fmt.Errorf("%s: has no value: write one%s, or leave the key out for its default", path,
				map[bool]string{true: `, "" where an empty text is meant`}[t.Kind() == reflect.String]))
		}
	case map[string]any:
		for _, key := range sortedKeys(v) {
			at := join(path, key)
			switch t.Kind() {
			case reflect.Map:
				problems = append(problems, misfits(at, v[key], t.Elem())...)
			case reflect.Struct:
				f, ok := fieldOf(t, key)
				if !ok {
					problems = append(problems, fmt.Errorf("%s: unknown key", at))
					continue
				}
				problems = append(problems, misfits(at, v[key], f.Type)...)
			}
		}
	case []any:
		if t.Kind() == reflect.Slice {
			for i, e := range v {
				problems = append(problems, misfits(fmt.Sprintf("%s[%d]", path, i), e, t.Elem())...)
			}
		}
	}
	return problems
}

// scalar reports whether a type is written as one value.
func scalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Map, reflect.Slice, reflect.Array, reflect.Interface:
		return false
	case reflect.Struct:
		return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	default:
		return true
	}
}

// given is raw without the keys that have no value: to the decoder those would be
// zero, and not the default.
func given(raw any) any {
	m, ok := raw.(map[string]any)
	if !ok {
		return raw
	}
	out := make(map[string]any, len(m))
	for key, v := range m {
		if v != nil {
			out[key] = given(v)
		}
	}
	return out
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// refuseBareDuration keeps "timeout: 5" from meaning five nanoseconds.
func refuseBareDuration(_, to reflect.Type, v any) (any, error) {
	if to != reflect.TypeFor[time.Duration]() || v == 0 {
		return v, nil
	}
	switch n := v.(type) {
	case int, int64, uint64:
		return nil, fmt.Errorf("write a duration with its unit, such as %vs", n)
	case float64:
		return nil, fmt.Errorf("write a duration with its unit, such as %ss", strconv.FormatFloat(n, 'f', -1, 64))
	}
	return v, nil
}

// refuseInexactInteger keeps "attempts: 1.5" from meaning 1, and a number that does
// not fit from meaning a negative one.
func refuseInexactInteger(from, to reflect.Type, v any) (any, error) {
	switch to.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if from.Kind() == reflect.Uint64 { // YAML's only for what is beyond int64
			return nil, errors.New("the number is too large")
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
	default:
		return v, nil
	}
	if from.Kind() == reflect.Float64 {
		return nil, errors.New("write a whole number, without a point or an exponent")
	}
	return v, nil
}

// refuseBareDecimal keeps "per: 1.10" from having been a float before it is text.
func refuseBareDecimal(from, to reflect.Type, v any) (any, error) {
	if to.Kind() == reflect.String && from.Kind() == reflect.Float64 {
		return nil, errors.New("put the number in quotes: without them it is not exact")
	}
	return v, nil
}

// decodeErrors lists the innermost problems of the decoder: those that name a key.
func decodeErrors(err error) []*mapstructure.DecodeError {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*mapstructure.DecodeError
		for _, e := range many.Unwrap() {
			out = append(out, decodeErrors(e)...)
		}
		return out
	}
	inner := decodeErrors(errors.Unwrap(err))
	if de, ok := err.(*mapstructure.DecodeError); ok && len(inner) == 0 { //nolint:errorlint // the error itself, not one further down
		return []*mapstructure.DecodeError{de}
	}
	return inner
}

func join(path, key string) string {
	switch {
	case path == "":
		return key
	case key == "":
		return path
	default:
		return path + "." + key
	}
}
