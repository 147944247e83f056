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
// its plan, stays the same whatever the number of rows; SQLite gets VALUES.
type Rows struct {
	cols   []Column
	varies []int
	values []any
}

// NewRows names the columns. At least one is not Same.
func NewRows(cols ...Column) *Rows {
	r := &Rows{cols: cols}
	for i, c := range cols {
		if !c.fixed {
			r.varies = append(r.varies, i)
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
	r.values = append(r.values, values...)
}

// Len is the number of rows.
func (r *Rows) Len() int { return len(r.values) / len(r.varies) }

// names lists the columns as the common table expression needs them: those of
// Add first, then those that are the same for all.
func (r *Rows) names() string {
	names := make([]string, 0, len(r.cols))
	for _, i := range r.varies {
		names = append(names, r.cols[i].name)
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
	var args []any
	for j, i := range r.varies {
		args = append(args, r.array(j, r.cols[i].kind))
		arrays = append(arrays, "$"+strconv.Itoa(len(args))+"::"+r.cols[i].kind.pgType()+"[]")
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

// array collects column j of the rows. Pointers carry NULL.
func (r *Rows) array(j int, k kind) any {
	switch k {
	case text:
		return column[string](r, j)
	case integer:
		return column[int64](r, j)
	case timestamp:
		return column[time.Time](r, j)
	case boolean:
		return column[bool](r, j)
	default:
		out := make([][]byte, 0, r.Len())
		for n := j; n < len(r.values); n += len(r.varies) {
			b, _ := r.values[n].([]byte) // nil is NULL.
			out = append(out, b)
		}
		return out
	}
}

// column returns []T, or []*T when some value is NULL.
func column[T any](r *Rows, j int) any {
	plain := make([]T, 0, r.Len())
	for n := j; n < len(r.values); n += len(r.varies) {
		v, ok := r.values[n].(T)
		if !ok {
			return nullable[T](r, j)
		}
		plain = append(plain, v)
	}
	return plain
}

func nullable[T any](r *Rows, j int) any {
	out := make([]*T, 0, r.Len())
	for n := j; n < len(r.values); n += len(r.varies) {
		if r.values[n] == nil {
			out = append(out, nil)
			continue
		}
		v, ok := r.values[n].(T)
		if !ok {
			panic(fmt.Sprintf("effects: column %s holds a %T", r.cols[r.varies[j]].name, r.values[n]))
		}
		out = append(out, &v)
	}
	return out
}

// sqliteVariables is SQLite's default bound of parameters in one statement.
const sqliteVariables = 32766

// sqlite words rows from..to as a common table expression over VALUES. The
// parameters have no numbers on purpose: SQLite looks numbered ones up one by one.
func (r *Rows) sqlite(from, to int) (string, []any) {
	var b strings.Builder
	args := make([]any, 0, len(r.cols)+(to-from)*len(r.varies))
	b.WriteString("WITH input (" + r.names() + ") AS (SELECT v.*")
	for _, c := range r.cols {
		if c.fixed {
			b.WriteString(", ?")
			args = append(args, sqliteValue(c.value))
		}
	}
	row := "(" + strings.TrimSuffix(strings.Repeat("?, ", len(r.varies)), ", ") + ")"
	b.WriteString(" FROM (VALUES ")
	for n := from; n < to; n++ {
		if n > from {
			b.WriteString(", ")
		}
		b.WriteString(row)
		for _, v := range r.values[n*len(r.varies) : (n+1)*len(r.varies)] {
			args = append(args, sqliteValue(v))
		}
	}
	b.WriteString(") AS v) ")
	return b.String(), args
}

// perStatement is how many rows fit one SQLite statement.
func (r *Rows) perStatement() int { return (sqliteVariables - len(r.cols)) / len(r.varies) }

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
