package admin

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-playground/validator/v10"
)

// query reads the parameters of a request and collects every problem with them.
type query struct {
	values   url.Values
	names    map[string]string // of struct fields, for the validator's problems
	problems []problem
}

func newQuery(c *gin.Context) *query {
	q := &query{names: map[string]string{}}
	var err error
	if q.values, err = url.ParseQuery(c.Request.URL.RawQuery); err != nil {
		q.wrong("", "the query cannot be read")
	}
	return q
}

func (q *query) wrong(name, text string) {
	q.problems = append(q.problems, problem{Parameter: name, Problem: text})
}

// text reads a parameter into the struct field called field. An empty one is refused:
// it comes of a variable that is not set, and taken for none it would select all.
func (q *query) text(name, field string) string {
	q.names[field] = name
	given := q.values[name]
	switch len(given) {
	case 0:
		return ""
	case 1:
		if given[0] == "" {
			q.wrong(name, "is empty: give a value, or leave it out")
		}
	default:
		q.wrong(name, "is given more than once")
	}
	return given[0]
}

// number reads an integer.
func (q *query) number(name, field string, otherwise int) int {
	text := q.text(name, field)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		q.wrong(name, "must be a whole number")
		return otherwise
	}
	return n
}

// moment reads a time, either as it stands or as how long ago it was.
func (q *query) moment(name, field string, now time.Time) time.Time {
	text := q.text(name, field)
	if text == "" {
		return time.Time{}
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at.UTC()
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago).UTC()
	}
	q.wrong(name, "must be a time such as 2026-03-01T12:00:00Z, or how long ago, such as 2h")
	return time.Time{}
}

// check validates the struct that was read and answers if anything was wrong,
// parameters that nobody read included.
func (q *query) check(c *gin.Context, v *validator.Validate, read any) bool {
	known := map[string]bool{}
	for _, name := range q.names {
		known[name] = true
	}
	for name := range q.values {
		if !known[name] {
			q.wrong(name, "is not a parameter here")
		}
	}
	var invalid validator.ValidationErrors
	if err := v.Struct(read); errors.As(err, &invalid) {
		for _, field := range invalid {
			q.wrong(cmp.Or(q.names[field.StructField()], strings.ToLower(field.StructField())), words(field))
		}
	}
	if len(q.problems) == 0 {
		return true
	}
	slices.SortStableFunc(q.problems, func(a, b problem) int { return cmp.Compare(a.Parameter, b.Parameter) })
	fail(c, http.StatusBadRequest, "bad_request", "some parameters cannot be used", q.problems...)
	return false
}

// words says what a rule of the validator asks for.
func words(f validator.FieldError) string {
	text := f.Kind().String() == "string"
	switch f.Tag() {
	case "required":
		return "is required"
	case "min":
		return "must be at least " + f.Param()
	case "max":
		if text {
			return "must be at most " + f.Param() + " characters long"
		}
		return "must be at most " + f.Param()
	case "oneof":
		return "must be one of: " + f.Param()
	case "gtfield":
		return "must be later than since"
	default:
		return "does not satisfy " + f.Tag()
	}
}
