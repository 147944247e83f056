package effects

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// kind is the SQL type of a column of Rows.
type kind uint8

const (
	text kind = iota + 1
	integer
	blob
	timestamp
	boolean
)

// pgType is what a column's array is cast to.
func (k kind) pgType() string {
	return [...]string{text: "text", integer: "bigint", blob: "bytea", timestamp: "timestamptz", boolean: "boolean"}[k]
}

// Column is one column of Rows.
type Column struct {
	name  string
	kind  kind
	fixed bool
	value any
}

// Text is a column of strings.
func Text(name string) Column { return Column{name: name, kind: text} }

// Integer is a column of int64.
func Integer(name string) Column { return Column{name: name, kind: integer} }

// Blob is a column of bytes.
func Blob(name string) Column { return Column{name: name, kind: blob} }

// Timestamp is a column of times, kept to the millisecond.
func Timestamp(name string) Column { return Column{name: name, kind: timestamp} }

// Boolean is a column of truth values.
func Boolean(name string) Column { return Column{name: name, kind: boolean} }

// Same gives a column one value for all rows, which is sent once. Add skips it.
func (c Column) Same(value any) Column {
	c.fixed, c.value = true, value
	return c
}

// Rows is a relation that is sent along with a statement, where it is called
// input: one statement then writes or looks up as many rows as the batch has.
// PostgreSQL gets one array a column, so that the statement's text, and with it
// its plan, stays the same whatever the number of rows; SQLite gets VALUES, in numbers
// of rows that come again.
type Rows struct {
	cols   []Column
	varies []cells
	n      int
}

// cells are the values of a column, in the slice of its kind.
type cells struct {
	Column
	texts    []string
	integers []int64
	blobs    [][]byte
	times    []time.Time
	booleans []bool
	// null marks what is NULL; empty while nothing is.
	null []bool
}

// NewRows names the columns. At least one is not Same.
func NewRows(cols ...Column) *Rows {
	r := &Rows{cols: cols}
	for _, c := range cols {
		if !c.fixed {
			r.varies = append(r.varies, cells{Column: c})
		}
	}
	return r
}

// Add appends a row: one value for each column that is not Same, in order. A
// value is of its column's Go type, or nil.
func (r *Rows) Add(values ...any) {
	if len(values) != len(r.varies) {
		panic(fmt.Sprintf("effects: %d values for %d columns", len(values), len(r.varies)))
	}
	for i, v := range values {
		if c := &r.varies[i]; !c.add(r.n, v) {
			panic("effects: column " + c.name + " is given a value of another type")
		}
	}
	r.n++
}

// add appends the value of row n and reports whether it is of the column's type.
func (c *cells) add(n int, v any) bool {
	isNull := v == nil
	ok := true
	switch c.kind {
	case text:
		var x string
		if !isNull {
			x, ok = v.(string)
		}
		c.texts = append(c.texts, x)
	case integer:
		var x int64
		if !isNull {
			x, ok = v.(int64)
		}
		c.integers = append(c.integers, x)
	case blob:
		var x []byte
		if !isNull {
			x, ok = v.([]byte)
		}
		isNull = x == nil
		c.blobs = append(c.blobs, x)
	case timestamp:
		var x time.Time
		if !isNull {
			x, ok = v.(time.Time)
		}
		c.times = append(c.times, x)
	case boolean:
		var x bool
		if !isNull {
			x, ok = v.(bool)
		}
		c.booleans = append(c.booleans, x)
	}
	if isNull && c.null == nil {
		c.null = make([]bool, n, n+1)
	}
	if c.null != nil {
		c.null = append(c.null, isNull)
	}
	return ok
}

// isNull reports whether the value of row n is NULL.
func (c *cells) isNull(n int) bool { return c.null != nil && c.null[n] }

// Len is the number of rows.
func (r *Rows) Len() int { return r.n }

// names lists the columns as the common table expression needs them: those of
// Add first, then those that are the same for all.
func (r *Rows) names() string {
	names := make([]string, 0, len(r.cols))
	for i := range r.varies {
		names = append(names, r.varies[i].name)
	}
	for _, c := range r.cols {
		if c.fixed {
			names = append(names, c.name)
		}
	}
	return strings.Join(names, ", ")
}

// postgres words the relation as a common table expression over arrays.
func (r *Rows) postgres() (string, []any) {
	var arrays, fixed []string
	args := make([]any, 0, len(r.cols))
	for i := range r.varies {
		args = append(args, r.varies[i].array())
		arrays = append(arrays, "$"+strconv.Itoa(len(args))+"::"+r.varies[i].kind.pgType()+"[]")
	}
	for _, c := range r.cols {
		if c.fixed {
			args = append(args, c.value)
			fixed = append(fixed, ", $"+strconv.Itoa(len(args))+"::"+c.kind.pgType())
		}
	}
	return "WITH input (" + r.names() + ") AS (SELECT u.*" + strings.Join(fixed, "") +
		" FROM unnest(" + strings.Join(arrays, ", ") + ") AS u) ", args
}

// array is the column as the driver takes it. Pointers carry NULL.
func (c *cells) array() any {
	switch c.kind {
	case text:
		return pgTexts{c.texts, c.null}
	case integer:
		return nullable(c.integers, c.null)
	case timestamp:
		return nullable(c.times, c.null)
	case boolean:
		return nullable(c.booleans, c.null)
	default:
		return c.blobs // nil is NULL.
	}
}

func nullable[T any](values []T, null []bool) any {
	if null == nil {
		return values
	}
	out := make([]*T, len(values))
	for n := range values {
		if !null[n] {
			out[n] = &values[n]
		}
	}
	return out
}

// sqlite calls run for one statement after another, until all rows were in one: the
// relation as a common table expression over VALUES, and its parameters. They have no
// numbers on purpose: SQLite looks numbered ones up one by one.
func (r *Rows) sqlite(run func(with string, args []any) error) error {
	var args []any
	for from, step := 0, sqliteStep; from < r.n; {
		if step > r.n-from {
			step /= 2
			continue
		}
		args = args[:0]
		for _, c := range r.cols {
			if c.fixed {
				args = append(args, sqliteValue(c.value))
			}
		}
		for n := from; n < from+step; n++ {
			for i := range r.varies {
				args = append(args, r.varies[i].value(n))
			}
		}
		if err := run(r.with(step), args); err != nil {
			return err
		}
		from += step
	}
	return nil
}

// sqliteStep is how many rows a SQLite statement has at most. Fewer rows are sent in
// powers of two, so that a statement has few texts and is parsed once for each.
const sqliteStep = 64

func (r *Rows) with(rows int) string {
	var b strings.Builder
	b.WriteString("WITH input (" + r.names() + ") AS (SELECT v.*")
	b.WriteString(strings.Repeat(", ?", len(r.cols)-len(r.varies)))
	row := "(" + strings.Repeat("?, ", len(r.varies)-1) + "?)"
	b.WriteString(" FROM (VALUES ")
	b.WriteString(strings.Repeat(row+", ", rows-1))
	b.WriteString(row + ") AS v) ")
	return b.String()
}

// value is what the SQLite driver stores for row n.
func (c *cells) value(n int) any {
	if c.isNull(n) {
		return nil
	}
	switch c.kind {
	case text:
		return c.texts[n]
	case integer:
		return c.integers[n]
	case timestamp:
		return sqliteValue(c.times[n])
	case boolean:
		return c.booleans[n]
	default:
		return c.blobs[n]
	}
}

// sqliteTime is the text SQLite keeps times as: UTC, fixed width, so that they
// compare as text as they compare as times.
const sqliteTime = "2006-01-02T15:04:05.000Z"

// sqliteValue turns a value into what the SQLite driver stores.
func sqliteValue(v any) any {
	if t, ok := v.(time.Time); ok {
		return t.UTC().Format(sqliteTime)
	}
	return v
}

// Time scans a timestamp of either database. NULL is the zero time.
type Time struct{ time.Time }

// Scan implements sql.Scanner.
func (t *Time) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		t.Time = time.Time{}
	case time.Time:
		t.Time = v.UTC()
	case string:
		parsed, err := time.Parse(sqliteTime, v)
		if err != nil {
			return fmt.Errorf("effects: a stored time is malformed: %w", err)
		}
		t.Time = parsed.UTC()
	default:
		return fmt.Errorf("effects: a stored time is a %T", src)
	}
	return nil
}

// OrNull is t, or nil for the zero time: unknown is NULL.
func OrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

// TextOrNull is s, or nil for "".
func TextOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}
